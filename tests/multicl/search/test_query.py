from __future__ import annotations

from pathlib import Path

import media
import pytest

from multicl.modalities.image import Image
from multicl.modalities.text import Text
from multicl.search.query import readers_of

NODES = {"image": Image("small", size=16), "text": Text("words")}


@pytest.mark.parametrize("text", ["~10 red squares", "~~~", "~nobody_of_this_name", "~"])
@pytest.mark.parametrize("paths", [True, False])
def test_words_that_begin_with_a_tilde_are_words(text: str, paths: bool) -> None:
    assert readers_of(NODES, text, paths=paths) == (["text"], text)


def test_a_tilde_before_a_path_is_ones_home_unless_no_string_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(media.png(0))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert readers_of(NODES, "~/a.png") == (["image"], str(tmp_path / "a.png"))
    assert readers_of(NODES, "~/a.png", paths=False) == (["text"], "~/a.png")
