"""Debiased contrast with hard negatives (Robinson et al. 2021, arXiv:2010.04592).

    L = mean_i -log  e^{s_i+ / T} / (e^{s_i+ / T} + N_i G_i)

G_i is the mean of exp(s_ij / T) over the N_i negatives, weighted by exp(beta s_ij / T) and corrected for the share
tau_plus of them that are really positives. It is at least exp(-1 / T), as in the paper's code.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from multicl.choices import number
from multicl.objectives.temperature import Tempered, one_width
from multicl.types import InputError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class HardNegative(Tempered):
    """Settings of the objective; beta=0 and tau_plus=0 make it NT-Xent. A row that has no negative counts nowhere.

    Where a row has several positives, their mean logit stands for s_i+ / T.
    """

    temperature: float = 0.5
    _: KW_ONLY
    beta: float = 1.0
    """How much the negatives nearest to a row outweigh the others; 0: not at all."""
    tau_plus: float = 0.1
    """Share of the negatives that are really positives, in [0, 1): 1 / number of classes, where they are balanced."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_negatives(self.beta, self.tau_plus)

    def build(self, dims: tuple[int, int]) -> nn.Module:
        """The module; InputError where the two sides differ in width."""
        from multicl.objectives.negatives import HardRows, NegativesObjective

        one_width(self, dims)
        return NegativesObjective(self, HardRows(self.beta, self.tau_plus))


def check_negatives(beta: float, tau_plus: float) -> None:
    """Check the weights of negatives.

    Raises:
        InputError: not numbers; beta below 0 or infinite; tau_plus outside [0, 1).
    """
    if not 0 <= number("hard negatives: beta", beta) < math.inf:
        raise InputError(f"hard negatives: beta must be {'finite' if beta > 0 else '0 or more'}, got {beta}")
    if not 0 <= number("hard negatives: tau_plus", tau_plus) < 1:
        raise InputError(f"hard negatives: tau_plus must be in [0, 1), got {tau_plus}")
