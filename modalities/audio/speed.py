"""A sound played faster or slower: pitch, formants and tempo change together, for each row by a factor of its own."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn

from multicl.modalities.audio.mel import within

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
        part = part if factor == STEPS else _resampled(part, factor)
        out[rows, : part.shape[1]] = part * within(sizes[rows], part.shape[1])
    return out


def _resampled(wave: Tensor, factor: int) -> Tensor:
    """[B, T] -> [B, ceil(T * STEPS / factor)], as a product of frames and filters."""
    filters, reach, old = _filters(factor, wave.device)
    count = wave.shape[1]
    frames = -(-count // old)
    padded = nn.functional.pad(wave, (reach, frames * old + reach - count))
    made = padded.unfold(1, 2 * reach + old, old) @ filters  # [B, frames, new]
    return made.flatten(1)[:, : -(-count * STEPS // factor)]


@functools.lru_cache(maxsize=256)
def _filters(factor: int, device: torch.device) -> tuple[Tensor, int, int]:
    """What makes `new` samples of `old` ones: [2 * reach + old, new] sincs under a Hann window of 6 zero crossings."""
    shared = math.gcd(factor, STEPS)
    old, new = factor // shared, STEPS // shared
    band = 0.99 * min(1.0, new / old)  # of the frequencies there are, so that none folds back
    reach = math.ceil(6 / band)
    at = torch.arange(-reach, reach + old, dtype=torch.float64)[:, None]
    distance = ((at - torch.arange(new) * old / new) * band).clamp(-6, 6)
    filters = torch.sinc(distance) * (distance * math.pi / 12).cos().square() * band
    return filters.float().to(device), reach, old
