"""A sound played faster or slower: pitch, formants and tempo change together, for each row by a factor of its own."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from torchaudio.transforms import Resample

from multicl.modalities.audio.mel import within

if TYPE_CHECKING:
    import torch
    from torch import Tensor

STEPS = 40
"""Factors are whole numbers of 1/40, so that a few band-limited filters do for all rows."""


def drawn(draws: Tensor, low: float, high: float) -> Tensor:
    """[B] draws in [0, 1) -> [B] int64 factors in fortieths, uniform from the one nearest to low to that of high."""
    first, last = round(low * STEPS), round(high * STEPS)
    return first + (draws * (last - first + 1)).long().clamp(max=last - first)


def lengths_at(lengths: Tensor, factors: Tensor) -> Tensor:
    """[B] samples at these speeds, rounded up."""
    return -(-lengths * STEPS // factors)


def at_speed(wave: Tensor, lengths: Tensor, factors: Tensor) -> Tensor:
    """Resample each row (windowed sinc), rows of one factor at once.

    Args:
        wave: [B, T] float32, zero beyond lengths [B].
        factors: [B] int64, in fortieths: 50 is 1.25 times as fast.

    Returns:
        [B, T'] float32, zero beyond `lengths_at`, T' the longest of them.
    """
    if len(wave) == 0:
        return wave
    sizes = lengths_at(lengths, factors)
    out = wave.new_zeros(len(wave), int(sizes.max()))
    for factor in factors.unique().tolist():
        rows = (factors == factor).nonzero()[:, 0]
        part = wave[rows, : int(lengths[rows].max())]
        part = part if factor == STEPS else _resampler(factor, wave.device)(part)
        out[rows, : part.shape[1]] = part * within(sizes[rows], part.shape[1])
    return out


@functools.lru_cache(maxsize=256)
def _resampler(factor: int, device: torch.device) -> Resample:
    return Resample(factor, STEPS).to(device)
