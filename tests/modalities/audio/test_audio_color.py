import math

import numpy as np
import pytest
import torch

from multicl.modalities.audio import Audio, Augment
from multicl.modalities.audio.color import KNOTS, colored

RATE = 8000


def at(hertz):
    """Where a frequency is between the first gain and the last."""
    return math.log10(1 + hertz / 700) / math.log10(1 + RATE / 2 / 700) * (KNOTS - 1)


@pytest.mark.parametrize("hertz", [300, 1000, 2500, 3500])
def test_a_tone_gets_its_frequencys_gain_and_no_delay(hertz):
    decibels = torch.tensor([[6.0, -6.0, 10.0, 0.0, -10.0]])
    tone = torch.sin(torch.arange(4000) * 2 * math.pi * hertz / RATE)[None]
    heard = colored(tone, torch.tensor([4000]), decibels, RATE)[0, 500:3500]
    factor = 10 ** (np.interp(at(hertz), range(KNOTS), decibels[0].tolist()) / 20)
    torch.testing.assert_close(heard, factor * tone[0, 500:3500], atol=0.04 * factor, rtol=0)


def test_gains_of_zero_change_nothing_and_silence_stays_beyond_the_length():
    wave = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    wave[1, 600:] = 0
    sizes = torch.tensor([1000, 600])
    torch.testing.assert_close(colored(wave, sizes, torch.zeros(2, KNOTS), RATE), wave, atol=1e-5, rtol=0)
    assert not colored(wave, sizes, torch.ones(2, KNOTS), RATE)[1, 600:].any()


def test_each_row_has_gains_of_its_own_within_the_range():
    click = torch.zeros(8, 1024)
    click[:, 512] = 1
    batch = Audio().collate(list(click))
    view = Audio(rate=RATE, strong=Augment(color_db=10)).view(batch, torch.arange(8))
    gains = 20 * torch.fft.rfft(view.get("wave")).abs().log10()
    assert gains.abs().max() < 10.5
    assert gains.abs().amax(1).min() > 2
    assert gains.std(0).min() > 2
