"""NT-Xent (SimCLR, arXiv:2002.05709, equation 1): InfoNCE over the two views of each row of one node.

A view's positive is the other view of its row; its negatives are both views of all other rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from multicl.objectives.temperature import Tempered, one_width

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class NTXent(Tempered):
    """Settings of the objective, for `Pair("x", "x", NTXent())`; two nodes are refused."""

    temperature: float = 0.5

    def build(self, dims: tuple[int, int]) -> nn.Module:
        """The module; InputError where the two sides differ in width."""
        from multicl.objectives.softmax import SoftmaxObjective

        one_width(self, dims)
        return SoftmaxObjective(self, one_node=True)
