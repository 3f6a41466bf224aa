"""Views and encoders on a GPU, which is pretended: the CPU's sounds, nothing refused, and nothing waited for."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import media
import pytest
import torch
from pretended import Gpu, OnGpu, same

from multicl.modalities.audio import Audio, Augment
from multicl.modalities.audio.tempo import _inverse
from multicl.types import Batch

EACH = {
    "crop": {"crop": (0.5, 0.9)}, "gain": {"gain_db": (-6.0, 6.0)}, "noise": {"noise": 0.5},
    "polarity": {"polarity": 0.5}, "shift": {"shift": 0.3}, "speed": {"speed": (0.8, 1.25)},
    "faster": {"speed": (1.1, 1.25)}, "stretch": {"stretch": 0.5}, "quicker": {"stretch": 1.0, "tempo": (1.1, 1.3)},
    "warp": {"warp": (0.8, 1.25)}, "time warp": {"time_warp": 0.2}, "color": {"color_db": 12.0},
    "background": {"background": 0.5}, "masks": {"time_masks": 2, "freq_masks": 2},
}  # fmt: skip
ALL: dict[str, Any] = {}
for one in EACH.values():
    ALL |= one
SEEDS = torch.arange(6) * 1000


def batch_of(audio: Audio) -> Batch:
    g = torch.Generator().manual_seed(0)
    return audio.collate([torch.randn(2000 + 700 * i, generator=g) * 0.1 for i in range(6)])


def near(found: Batch, wanted: Batch) -> None:
    """Sounds are as long as they are there, and zero beyond; on a GPU rows may have more room."""
    assert sorted(found) == sorted(wanted)
    for name in wanted:
        one, other = found.get(name), wanted.get(name)
        if name == "wave":
            size = min(one.shape[1], other.shape[1])
            assert isinstance(one, OnGpu)
            assert not one.held[:, size:].any()
            assert not other[:, size:].any()
            one, other = one[:, :size], other[:, :size]
        same(one, other, 1e-5)


@pytest.mark.parametrize("seconds", [None, 0.2])
@pytest.mark.parametrize("changes", [*EACH.values(), ALL], ids=[*EACH, "all"])
def test_every_change_is_the_cpus(changes: dict[str, Any], seconds: float | None, gpu: Gpu) -> None:
    audio = Audio(seconds=seconds, strong=Augment(**changes))
    batch = batch_of(audio)
    audio.view(batch.to("cuda"), SEEDS)  # filters are made once
    gpu.clear()
    found = audio.view(batch.to("cuda", non_blocking=True), SEEDS)
    assert not gpu.waits
    near(found, audio.view(batch, SEEDS))


@pytest.mark.parametrize("kind", ["strong", "weak"])
def test_every_kind_of_view(kind: Any, gpu: Gpu) -> None:
    audio = Audio()
    found = audio.view(batch_of(audio).to("cuda", non_blocking=True), SEEDS, kind)
    assert not gpu.waits
    near(found, audio.view(batch_of(audio), SEEDS, kind))


def test_seeds_may_be_on_the_device(gpu: Gpu) -> None:
    audio = Audio(strong=Augment(**ALL))
    batch = batch_of(audio)
    near(audio.view(batch.to("cuda"), SEEDS.to("cuda")), audio.view(batch, SEEDS))
    assert torch.equal(audio.view(batch, SEEDS.to("cuda")).get("wave"), audio.view(batch, SEEDS).get("wave"))


def test_noises_of_a_folder_are_sent_once(tmp_path: Path, gpu: Gpu) -> None:
    (tmp_path / "noise.wav").write_bytes(media.wav(0))
    audio = Audio(strong=Augment(background=1.0), noises=str(tmp_path))
    batch = batch_of(audio)
    audio.view(batch.to("cuda"), SEEDS)
    gpu.clear()
    found = audio.view(batch.to("cuda", non_blocking=True), SEEDS)
    assert not gpu.waits
    near(found, audio.view(batch, SEEDS))


def test_autocast_does_not_round_a_view() -> None:
    """As of momentum towers, whose views are made where they are embedded."""
    audio = Audio(strong=Augment(**ALL))
    batch = batch_of(audio)
    wanted = audio.view(batch, SEEDS)
    with torch.autocast("cpu", torch.bfloat16):
        found = audio.view(batch, SEEDS)
    assert all(torch.equal(found.get(name), wanted.get(name)) for name in wanted)


@pytest.mark.parametrize("points", [64, 1024])
@pytest.mark.parametrize("length", [10, 1000, 5003])
def test_the_inverse_of_a_spectrum_is_torchs_to_the_bit(points: int, length: int) -> None:
    count = (length + points // 2) // (points // 4) + 1
    g, window = torch.Generator().manual_seed(length), torch.hann_window(points)
    spectrum = torch.randn(2, count, points // 2 + 1, dtype=torch.complex64, generator=g)
    wanted = torch.istft(spectrum.mT, points, points // 4, window=window, length=length)
    assert torch.equal(_inverse(spectrum, window, length), wanted)


NETS: dict[str, dict[str, Any]] = {
    "small": {}, "by band, root": {"center": "band", "root": 0.3}, "by change": {"parts": "change"},
    "wave": {"input": "wave"}, "segments": {"pooling": "segments", "stride": 2},
}  # fmt: skip


@pytest.mark.parametrize("settings", NETS.values(), ids=NETS)
def test_encoders_are_the_cpus_under_autocast_too(settings: dict[str, Any], gpu: Gpu) -> None:
    heard = Augment(time_masks=2, freq_masks=2, warp=(0.8, 1.25), time_warp=0.2)
    audio = Audio(strong=heard, **settings)
    encoder = audio.build()
    there, batch = copy.deepcopy(encoder).to("cuda"), audio.view(batch_of(audio), SEEDS)
    moved = batch.to("cuda", non_blocking=True)
    for low in (False, True):
        with torch.autocast("cuda", torch.bfloat16, enabled=low):
            found = there(moved)
        found.float().square().sum().backward()
        assert not gpu.waits
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            wanted = torch.cat([encoder(batch[i : i + 1]) for i in range(len(batch))]) if low else encoder(batch)
        same(found, wanted, 0.03 if low else 1e-5)


def test_windows_of_a_long_sound_are_the_cpus(gpu: Gpu) -> None:
    audio = replace(Audio(), max_seconds=0.1, windows=3)
    encoder = audio.build().eval()
    batch = batch_of(audio)
    with torch.no_grad():
        same(copy.deepcopy(encoder).to("cuda")(batch.to("cuda")), encoder(batch), 1e-5)
