"""CoSENT (Su 2022, https://kexue.fm/archives/8847): cosines should be in the order of graded scores.

    L = log(1 + sum over rows i, j with score_i > score_j of exp(scale * (cos_j - cos_i)))

A row is a pair of texts with a score, in any unit; its cosine is compared with those of all other rows, on all ranks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from multicl.choices import check_settings
from multicl.objectives.temperature import one_width
from multicl.types import InputError, MoreKeys

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class CoSENT:
    """Settings of the objective, for a `Pair` that has a `target` of graded scores. Rows without one count nowhere."""

    scale: float = 20.0
    """Cosines are multiplied by it: 1 / temperature."""

    scores: ClassVar[Literal["graded"]] = "graded"
    extras: ClassVar[tuple[MoreKeys, ...]] = ()

    def __post_init__(self) -> None:
        check_settings(self)
        check_scale(self.scale)

    def build(self, dims: tuple[int, int]) -> nn.Module:
        """The module; InputError where the two sides differ in width."""
        from multicl.objectives.ordered import CoSENTObjective

        one_width(self, dims)
        return CoSENTObjective(self)


def check_scale(scale: float) -> None:
    """Raise InputError where the scale is not above 0."""
    if not 0 < scale < math.inf:
        raise InputError(f"CoSENT: scale must be above 0, got {scale}")
