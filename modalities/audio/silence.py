"""Trimming of a sound's quiet beginning and end, which depend on how the recording was cut, not on what was said."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from multicl.modalities.audio.mel import LogMel

if TYPE_CHECKING:
    from torch import Tensor

BANDS = 40


def trimmed(wave: Tensor, rate: int, below_db: float) -> Tensor:
    """The sound from the first to the last frame whose loudest band is at most `below_db` below the sound's loudest.

    Frames are 25 ms long, centred on multiples of 10 ms, with 40 mel bands. A voice occupies few bands and noise all of
    them, so the loudest band distinguishes a quiet voice from noise of the same power.

    Args:
        wave: [T] float32. rate: Hz. below_db: above 0.

    Returns:
        [T'] a part of it, 0 < T' <= T; all of it if it is silent.
    """
    front = _front(rate)
    power = front.power(wave[None])[0].amax(1)[: len(wave) // front.hop + 1]
    loud = (power >= power.max() * 10 ** (-below_db / 10)).nonzero()[:, 0]
    first, last = int(loud[0]), int(loud[-1])
    return wave[min(first * front.hop, len(wave) - 1) : (last + 1) * front.hop]


@cache
def _front(rate: int) -> LogMel:
    return LogMel(rate, BANDS)
