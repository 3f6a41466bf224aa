"""Sounds played faster or slower, each row by its own factor: pitch, formants and tempo change together."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn

from multicl.modalities.audio.mel import within

STEPS = 40
"""Factors are multiples of 1/40, so that a few band-limited filters serve all rows."""


def drawn(draws: Tensor, low: float, high: float) -> Tensor:
    """[B] draws in [0, 1) -> [B] int64 factors in fortieths, uniform between those nearest to `low` and `high`."""
    first, last = round(low * STEPS), round(high * STEPS)
    return first + (draws * (last - first + 1)).long().clamp(max=last - first)


def lengths_at(lengths: Tensor, factors: Tensor) -> Tensor:
    """[B] lengths in samples at these speeds, rounded up, on the device of `lengths`."""
    return -(-lengths * STEPS // factors.to(lengths.device, non_blocking=True))


def longest(wave: Tensor, lengths: Tensor) -> int:
    """The greatest length of rows [B, T]; on an accelerator its bound T, which takes no synchronisation."""
    return int(lengths.max()) if wave.device.type == "cpu" else wave.shape[1]


def longest_at(wave: Tensor, lengths: Tensor, factors: Tensor) -> int:
    """The greatest of `lengths_at`; on an accelerator an upper bound, as if all rows had length T."""
    if wave.device.type == "cpu":
        return int(lengths_at(lengths, factors).max())
    return -(-wave.shape[1] * STEPS // int(factors.min()))


def at_speed(wave: Tensor, lengths: Tensor, factors: Tensor) -> Tensor:
    """Resample each row (windowed sinc), rows of equal factor together.

    Args:
        wave: [B, T] float32, zero beyond lengths [B].
        factors: [B] int64, in fortieths: 50 is 1.25 times as fast. Factors on the CPU avoid synchronising with a GPU.

    Returns:
        [B, T'] float32, zero beyond `lengths_at`; T' is `longest_at`.
    """
    if len(wave) == 0:
        return wave
    sizes = lengths_at(lengths, factors)
    out = wave.new_zeros(len(wave), longest_at(wave, lengths, factors))
    for factor in factors.unique().tolist():
        rows = (factors == factor).nonzero()[:, 0].to(wave.device, non_blocking=True)
        part = wave[rows, : longest(wave, lengths[rows])]
        part = part if factor == STEPS else _resampled(part, factor)
        out[rows, : part.shape[1]] = part * within(sizes[rows], part.shape[1])
    return out


def _resampled(wave: Tensor, factor: int) -> Tensor:
    """[B, T] -> [B, ceil(T * STEPS / factor)], as a matrix product of frames and filters."""
    filters, reach, old = _filters(factor, wave.device)
    count = wave.shape[1]
    frames = -(-count // old)
    padded = nn.functional.pad(wave, (reach, frames * old + reach - count))
    made = padded.unfold(1, 2 * reach + old, old) @ filters  # [B, frames, new]
    return made.flatten(1)[:, : -(-count * STEPS // factor)]


@functools.lru_cache(maxsize=256)
def _filters(factor: int, device: torch.device) -> tuple[Tensor, int, int]:
    """[2 * reach + old, new] sincs that turn `old` samples into `new`, under a Hann window of 6 zero crossings."""
    shared = math.gcd(factor, STEPS)
    old, new = factor // shared, STEPS // shared
    band = 0.99 * min(1.0, new / old)  # fraction of the frequencies that is kept, so that none aliases
    reach = math.ceil(6 / band)
    at = torch.arange(-reach, reach + old, dtype=torch.float64)[:, None]
    distance = ((at - torch.arange(new) * old / new) * band).clamp(-6, 6)
    filters = torch.sinc(distance) * (distance * math.pi / 12).cos().square() * band
    return filters.float().to(device, non_blocking=True), reach, old
