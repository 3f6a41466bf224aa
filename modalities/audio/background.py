"""Background sounds, as a microphone picks them up along with the sound itself."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from multicl.modalities.audio.mel import within


class Sounds(NamedTuple):
    """The sounds that backgrounds are taken from."""

    wave: Tensor
    """[N] float32, all sounds concatenated."""
    first: Tensor
    """[n] int64, the index in `wave` at which each begins."""
    lengths: Tensor
    """[n] int64, in samples."""


def rows_of(wave: Tensor, lengths: Tensor) -> Sounds:
    """The rows [B, T] of a batch as `Sounds`."""
    return Sounds(wave.flatten(), torch.arange(len(wave), device=wave.device) * wave.shape[1], lengths)


def partners(draws: Tensor) -> Tensor:
    """[B] draws in [0, 1) -> [B] int64 rows of the batch, uniform over all but the row itself."""
    size = len(draws)
    step = 1 + (draws * (size - 1)).long().clamp(max=max(size - 2, 0))
    return (torch.arange(size, device=draws.device) + step) % max(size, 1)


def heard(sounds: Sounds, which: Tensor, place: Tensor, sizes: Tensor, widest: int) -> Tensor:
    """Excerpts of sounds; a sound that is too short is repeated.

    Args:
        which: [B] int64, the sound. place: [B], where in it to begin, as a fraction in [0, 1).
        sizes: [B] samples to take; zero beyond them.

    Returns:
        [B, widest].
    """
    first, lengths = sounds.first[which], sounds.lengths[which]
    start = (place.double() * lengths).long()
    at = (start[:, None] + torch.arange(widest, device=which.device)).remainder_(lengths[:, None])
    return sounds.wave.take(at.add_(first[:, None])).mul_(within(sizes, widest))


def mixed(wave: Tensor, sizes: Tensor, other: Tensor, ratio: Tensor) -> Tensor:
    """Add `other` at an amplitude of `ratio` times the row's own, both over the row's valid length.

    Args:
        wave, other: [B, T] float32, zero beyond sizes [B]. ratio: [B]; 0: nothing is added.
    """
    scale = ratio * rms(wave, sizes) / rms(other, sizes).clamp(min=1e-9)
    return wave + other * scale[:, None]


def rms(wave: Tensor, sizes: Tensor) -> Tensor:
    """[B] float32 root mean square of rows [B, T], zero beyond sizes [B], over these sizes."""
    # in float64, so that padding does not change a row's rounded sum
    power = torch.linalg.vector_norm(wave, dim=1, dtype=torch.float64).square() / sizes
    root: Tensor = power.sqrt().float()
    return root
