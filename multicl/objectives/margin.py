"""The margin loss of Hadsell, Chopra and LeCun 2006 (Dimensionality Reduction by Learning an Invariant Mapping).

    L = mean of D^2 / 2 over similar pairs, max(0, margin - D)^2 / 2 over others;  D = |a - b|, vectors as given

The pairs of a batch, two a row: a row of a with its own row of b, similar; and with the next row of b (the batch is a
ring, over all ranks), similar where the two have one id. So it is half and half, and linear in the batch. Where the
pair has a target, its 0 and 1 say which rows' two are similar, and there are no other pairs.
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
    """The distance beyond which a dissimilar pair is left alone; vectors are not normalised, so it sets their size."""

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
    """Raise InputError where the margin is no number above 0."""
    if not 0 < number("margin", margin) < math.inf:
        raise InputError(f"margin must be above 0, got {margin}")
