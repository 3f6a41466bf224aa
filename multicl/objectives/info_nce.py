"""InfoNCE (arXiv:1807.03748), CLIP's form (arXiv:2103.00020) across two nodes, NT-Xent (arXiv:2002.05709) within one.

    L = mean_i  log sum_j exp(s_ij / T) - mean_{p in P(i)} s_ip / T

Rows of equal id are positives of each other, each with its own share (SupCon's L_out, arXiv:2004.11362): labels as ids
make this SupCon, unique ids make it self-supervised.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from multicl.objectives.temperature import Tempered, one_width
from multicl.types import InputError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class InfoNCE(Tempered):
    """Settings of the objective; `Pair("x", "x", InfoNCE(...))` is NT-Xent over two views of each row."""

    temperature: float = 0.07
    _: KW_ONLY
    both_directions: bool = True
    """The mean of a->b and b->a; False: only a->b. A pair of one node has only one direction."""
    in_batch: bool = True
    """The keys of the batch's other rows are negatives; False: only those of the queue and explicit and mined
    negatives are, as in MoCo's paper (arXiv:1911.05722). A side without any of these asks for nothing."""
    own_negative: float = 1.0
    """Weight of a row's own explicit negative (`Pair(negatives=...)`) in its sum: the alpha of supervised SimCSE
    (arXiv:2104.08821, appendix B); other rows' negatives have weight 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.own_negative < math.inf:
            raise InputError(f"InfoNCE: own_negative must be above 0, got {self.own_negative}")

    def build(self, dims: tuple[int, int]) -> nn.Module:
        """The module; InputError where the two sides differ in width."""
        from multicl.objectives.softmax import SoftmaxObjective

        one_width(self, dims)
        return SoftmaxObjective(
            self, both_directions=self.both_directions, own_negative=self.own_negative, in_batch=self.in_batch
        )
