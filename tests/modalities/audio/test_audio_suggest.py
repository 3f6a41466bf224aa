from __future__ import annotations

import media
import pytest

from multicl.modalities.audio import Audio


@pytest.mark.parametrize("pretrained", [False, True])
def test_it_is_said_how_many_sounds_are_not_heard_to_their_end(pretrained: bool) -> None:
    sounds = [media.wav(i, seconds=length) for i, length in enumerate((0.3, 0.5, 11.0, 12.5))]
    found = Audio().suggest([*sounds, b"no sound"], accelerator=False, pretrained=pretrained)
    assert found.settings["max_seconds"] == 10
    assert "2 of 4 examined are longer: evaluation hears their beginning, or more with `windows`" in found.why
    short = Audio().suggest(sounds[:2], accelerator=False, pretrained=pretrained)
    assert short.settings["max_seconds"] == 1
    assert "longer" not in short.why
