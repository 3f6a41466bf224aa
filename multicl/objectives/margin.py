"""The margin loss of Hadsell, Chopra and LeCun 2006 (Dimensionality Reduction by Learning an Invariant Mapping).

    L = mean of D^2 / 2 over similar pairs, max(0, margin - D)^2 / 2 over others;  D = |a - b|, vectors as given

Each row of a is in two pairs: with its own row of b, which is similar; and with the next row of b (the batch of all
ranks is a ring), which is similar where ids are equal. So half of the pairs are similar by row, and the cost is linear
in the batch. With a `target`, its 0s and 1s say whether a row's two views are similar, and there are no other pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from multicl.choices import check_settings, number
from multicl.objectives.temperature import one_width
from multicl.types import InputError, MoreKeys

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Margin:
    """Settings of the objective."""

    margin: float = 1.0
    """Distance from which a dissimilar pair has no loss; vectors are not normalised, so it sets their scale."""

    scores: ClassVar[Literal["binary"]] = "binary"
    extras: ClassVar[tuple[MoreKeys, ...]] = ()

    def __post_init__(self) -> None:
        check_settings(self)
        check_margin(self.margin)

    def build(self, dims: tuple[int, int]) -> nn.Module:
        """The module; InputError where the two sides differ in width."""
        from multicl.objectives.distance import MarginObjective

        one_width(self, dims)
        return MarginObjective(self)


def check_margin(margin: float) -> None:
    """Raise InputError unless the margin is a finite number above 0."""
    if not 0 < number("margin", margin) < math.inf:
        raise InputError(f"margin must be above 0, got {margin}")
