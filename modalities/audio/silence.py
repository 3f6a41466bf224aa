"""The quiet beginning and end of a sound, which tell of whoever cut the recording and not of what was said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 0.025
"""Seconds of a frame whose power is looked at; frames are centred on multiples of HOP, with silence beyond the ends."""
HOP = 0.01


def trimmed(wave: Tensor, rate: int, below_db: float) -> Tensor:
    """From the first frame to the last that is at most so much quieter than the loudest; silence stays whole.

    Args:
        wave: [T] float32. rate: Hz. below_db: above 0.

    Returns:
        [T'] a part of it, 0 < T' <= T.
    """
    width, hop = max(1, round(rate * WINDOW)), max(1, round(rate * HOP))
    padded = nn.functional.pad(wave.double().square(), (width // 2, width))
    sums = nn.functional.pad(padded.cumsum(0), (1, 0))
    starts = torch.arange(0, len(wave), hop)
    power = sums[starts + width] - sums[starts]
    loud = (power >= power.max() * 10 ** (-below_db / 10)).nonzero()[:, 0]
    first, last = int(loud[0]), int(loud[-1])
    return wave[first * hop : min(len(wave), (last + 1) * hop)]
