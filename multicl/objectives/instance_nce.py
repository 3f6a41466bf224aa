"""Instance discrimination with a bank and NCE (Wu et al. 2018, arXiv:1805.01978; CMC, arXiv:1906.05849, section 3.2).

Each row is told apart from `negatives` other rows of the whole data set. A bank keeps a vector for every row; the row's
own slot is the positive. With two nodes, a's rows are compared with b's bank and b's rows with a's, as in CMC; with one
node, both draws are compared with one bank. The loss is in `multicl.ops.nce`.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, ClassVar

from multicl.choices import check_settings
from multicl.objectives.temperature import one_width
from multicl.types import InputError, MoreKeys

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class InstanceNCE:
    """Settings of the objective; the loss is the mean of the two directions, where CMC's code adds them up.

    Rows of equal id are never drawn as negatives of each other, and a row's only positive is its own slot.

    A bank lags behind the encoder, by half an epoch on average. Where nothing centres the vectors (a linear head, an
    encoder without batch norm), all of them may drift one way, away from the bank, instead of apart: the loss then
    rises as the learning rate falls. Batch norm in the head helps, but is no cure where an epoch has few steps.
    """

    temperature: float = 0.07
    """Similarities are divided by it."""
    _: KW_ONLY
    negatives: int = 4096
    """Number of slots drawn for each row at each step; CMC uses 16384."""
    momentum: float = 0.5
    """Share of its old vector that a slot keeps when its row is seen, in [0, 1)."""
    softmax: bool = False
    """Soft-max over the positive and the drawn negatives (InfoNCE) instead of NCE: an option of CMC's code."""

    extras: ClassVar[tuple[MoreKeys, ...]] = ()

    def __post_init__(self) -> None:
        check_settings(self)
        if not 0 < self.temperature < math.inf:
            raise InputError(f"InstanceNCE: temperature must be above 0, got {self.temperature}")
        if self.negatives < 1:
            raise InputError(f"InstanceNCE: negatives must be 1 or more, got {self.negatives}")
        if not 0 <= self.momentum < 1:
            raise InputError(f"InstanceNCE: momentum must be in [0, 1), got {self.momentum}")

    def build(self, dims: tuple[int, int]) -> nn.Module:
        """The module; InputError where the two sides differ in width."""
        from multicl.objectives.instances import InstanceObjective

        one_width(self, dims)
        return InstanceObjective(self)
