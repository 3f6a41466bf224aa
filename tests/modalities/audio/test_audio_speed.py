import dataclasses
import math

import numpy as np
import pytest
import torch

from multicl.modalities.audio import Audio, Augment
from multicl.modalities.audio.speed import STEPS, at_speed, drawn, lengths_at


def plain(x, factor):
    """A sample at a time: band-limited interpolation at j * factor, a sinc of 6 zero crossings under a Hann window."""
    speed = factor / STEPS
    band = 0.99 * min(1, 1 / speed)
    out = []
    for j in range(math.ceil(len(x) / speed)):
        t = (np.arange(len(x)) - j * speed) * band
        t = np.clip(t, -6, 6)
        out.append(float((x * np.sinc(t) * np.cos(t * math.pi / 12) ** 2 * band).sum()))
    return np.array(out)


def test_each_row_is_resampled_by_its_own_factor():
    lengths, factors = torch.tensor([1, 90, 400, 250, 399, 17]), torch.tensor([50, 32, 40, 47, 32, 160])
    rows = [torch.randn(n, generator=torch.Generator().manual_seed(int(n))) for n in lengths]
    wave = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    out, sizes = at_speed(wave, lengths, factors), lengths_at(lengths, factors)
    assert out.shape == (6, int(sizes.max()))
    for row, factor, size, found in zip(rows, factors, sizes, out, strict=True):
        wanted = row.numpy() if factor == STEPS else plain(row.double().numpy(), int(factor))
        assert int(size) == len(wanted)
        np.testing.assert_allclose(found[:size].numpy(), wanted, atol=2e-4)
        assert found[size:].abs().sum() == 0


def test_a_tone_is_as_much_higher_as_the_sound_is_shorter():
    count, rate = 4000, 8000
    tone = torch.sin(torch.arange(count) * 2 * math.pi * 400 / rate)
    batch = Audio(rate=rate).collate([tone] * 40)
    out = Audio(rate=rate, strong=Augment(speed=(0.8, 1.25))).view(batch, torch.arange(40))
    speeds = count / out.lengths
    assert speeds.min() < 0.85
    assert speeds.max() > 1.2
    assert len(out.lengths.unique()) > 8
    for row, n in zip(out.get("wave"), out.lengths.tolist(), strict=True):
        inside = row[20 : n - 20]
        wanted = torch.sin(torch.arange(20, n - 20) * 2 * math.pi * 400 / rate * round(STEPS * count / n) / STEPS)
        torch.testing.assert_close(inside, wanted, atol=0.02, rtol=0)


def test_factors_are_uniform_between_the_ends():
    factors = drawn(torch.linspace(0, 1 - 2**-24, 19_000), 0.8, 1.25)
    assert factors.unique().tolist() == list(range(32, 51))
    counts = factors.bincount()[32:]
    assert counts.min() > 990
    assert drawn(torch.tensor([0.0, 0.99]), 1.0, 1.0).tolist() == [STEPS, STEPS]


@pytest.mark.parametrize("seconds", [None, 0.1])
def test_with_a_crop_the_window_is_cut_first(seconds):
    batch = Audio(rate=1000).collate([torch.ones(300)] * 30)
    out = Audio(rate=1000, seconds=seconds, strong=Augment(speed=(0.5, 2.0))).view(batch, torch.arange(30))
    most = 300 if seconds is None else 100
    assert most / 2 <= out.lengths.min() < out.lengths.max() <= 2 * most
    assert out.get("wave").shape[1] == 2 * most
    unchanged = dataclasses.replace(Augment(), speed=(1.0, 1.0))
    assert torch.equal(Audio(rate=1000, strong=unchanged).view(batch, torch.arange(30)).get("wave"), batch.get("wave"))
