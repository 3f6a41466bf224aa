"""DCL (arXiv:2110.06848): NT-Xent with the positive left out of the denominator.

    L = mean_i  log sum_{j in negatives of i} exp(s_ij / T) - mean_{p in P(i)} s_ip / T

It needs fewer negatives than NT-Xent. It may be below 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from multicl.objectives.temperature import Tempered, one_width

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Decoupled(Tempered):
    """Settings of the objective; a row that has no negative counts nowhere."""

    temperature: float = 0.1

    def build(self, dims: tuple[int, int]) -> nn.Module:
        """The module; InputError where the two sides differ in width."""
        from multicl.objectives.negatives import DecoupledRows, NegativesObjective

        one_width(self, dims)
        return NegativesObjective(self, DecoupledRows())
