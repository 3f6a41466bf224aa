import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.functional import melscale_fbanks

from multicl.modalities.audio import Audio
from multicl.modalities.audio.mel import LogMel
from multicl.modalities.audio.silence import trimmed


def plain(wave, rate, below_db):
    """The loudest band of a frame at a time, by torchaudio."""
    width, hop = round(rate * 0.025), round(rate * 0.01)
    points = LogMel(rate, 40).points
    bank = melscale_fbanks(points // 2 + 1, 0.0, rate / 2, 40, rate)
    padded = torch.nn.functional.pad(wave, (width // 2, 2 * width))
    power = []
    for start in range(0, len(wave) + 1, hop):
        spectrum = torch.fft.rfft(padded[start : start + width] * torch.hann_window(width), n=points)
        power.append(float((spectrum.abs().square() @ bank).max()))
    loud = [i for i, p in enumerate(power) if p >= max(power) * 10 ** (-below_db / 10)]
    return wave[min(loud[0] * hop, len(wave) - 1) : (loud[-1] + 1) * hop]


@given(count=st.integers(1, 900), rate=st.sampled_from([4000, 8000]), below=st.floats(1, 60), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_ends_below_the_loudest_frame_are_left_out(count, rate, below, seed):
    generator = torch.Generator().manual_seed(seed)
    loudness = 10 ** torch.nn.functional.interpolate(torch.randn(1, 1, 6, generator=generator), count)[0, 0]
    wave = torch.randn(count, generator=generator) * loudness
    assert torch.equal(trimmed(wave, rate, below), plain(wave, rate, below))


def test_a_tone_between_quiet_ends_is_found_and_silence_stays():
    tone = torch.sin(torch.arange(800) * 0.7)
    quiet = torch.randn(1600, generator=torch.Generator().manual_seed(0)) * 1e-3
    wave = torch.cat([quiet, tone, quiet[:900]])
    audio = Audio(rate=8000, trim_db=30.0)
    found = audio.load((wave.numpy(), 8000))
    assert 800 <= len(found) <= 800 + 2 * 200
    start = np.flatnonzero((wave[: len(wave) - len(found) + 1, None] == found[0]).numpy())
    assert 1400 <= int(start[0]) <= 1600
    assert len(audio.load((torch.zeros(500).numpy(), 8000))) == 500
    assert len(Audio(rate=8000).load((wave.numpy(), 8000))) == len(wave)


@pytest.mark.parametrize("gain", [1e-3, 1.0])
def test_how_loud_the_recording_is_does_not_matter(gain):
    wave = torch.randn(4000, generator=torch.Generator().manual_seed(0)) * torch.linspace(-6, 0, 4000).exp()
    assert len(trimmed(wave * gain, 8000, 20.0)) == len(trimmed(wave, 8000, 20.0)) < 4000 * math.log(10) * 0.5
