"""SigLIP's loss (arXiv:2303.15343, section 3.2): every pair of rows is a binary classification of its own.

    L = -1/B sum_ij log sigmoid(y_ij (s_ij / T + bias)),  y_ij = 1 for positives, -1 for negatives

B is the number of rows of all ranks; nothing is normalised over rows, so small batches work well.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, ClassVar

from multicl.objectives.temperature import Tempered, one_width
from multicl.types import InputError, MoreKeys

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Sigmoid(Tempered):
    """Settings of the objective; the defaults are the paper's: the scale 1 / T begins at 10, the bias at -10."""

    temperature: float = 0.1
    _: KW_ONLY
    learnable: bool = True
    """Temperature and bias are parameters; the temperature is kept at 0.01 or more."""
    bias: float = -10.0
    """Added to every logit; at -10 all pairs begin as negatives, which nearly all of them are."""

    extras: ClassVar[tuple[MoreKeys, ...]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not math.isfinite(self.bias):
            raise InputError(f"Sigmoid: bias must be finite, got {self.bias}")

    def build(self, dims: tuple[int, int]) -> nn.Module:
        """The module; InputError where the two sides differ in width."""
        from multicl.objectives.logistic import SigmoidObjective

        one_width(self, dims)
        return SigmoidObjective(self)
