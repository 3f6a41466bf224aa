"""Random filters that imitate another microphone or room: each row passes through a smooth filter of its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from multicl.modalities.audio.mel import within

KNOTS = 5
"""Gains drawn for each filter, evenly spaced on the mel scale from 0 Hz to half the sampling rate."""
TAPS = 256


def colored(wave: Tensor, sizes: Tensor, decibels: Tensor, rate: int) -> Tensor:
    """Filter each row by gains in dB, interpolated linearly on the mel scale; linear phase, without delay.

    FilterAugment (arXiv:2110.03282, "linear type"), applied to waveforms, so that every encoder hears it.

    Args:
        wave: [B, T] float32, zero beyond sizes [B].
        decibels: [B, K], evenly spaced on the mel scale from 0 Hz to rate / 2.

    Returns:
        [B, T], zero beyond the sizes.
    """
    if len(wave) == 0:
        return wave
    hertz = torch.linspace(0, rate / 2, TAPS // 2 + 1, dtype=torch.float64, device=wave.device)
    mels = (1 + hertz / 700).log10() / math.log10(1 + rate / 2 / 700) * (decibels.shape[1] - 1)
    low = mels.long().clamp(max=decibels.shape[1] - 2)
    gains = decibels[:, low].lerp(decibels[:, low + 1], (mels - low).float())
    taps = torch.fft.irfft(10 ** (gains / 20), n=TAPS).roll(TAPS // 2, 1)  # [B, TAPS], the middle at TAPS / 2
    taps = taps * torch.hann_window(TAPS, device=wave.device)
    points = 1 << (wave.shape[1] + TAPS - 1).bit_length()
    spectrum = torch.fft.rfft(wave, n=points) * torch.fft.rfft(taps, n=points)
    heard: Tensor = torch.fft.irfft(spectrum, n=points)[:, TAPS // 2 : TAPS // 2 + wave.shape[1]]
    return heard * within(sizes, wave.shape[1])
