"""InfoNCE over the hardest negatives only: those of batch, queue and explicit ones that are most similar to a row.

    L = mean_i  log ( sum_{p in P(i)} exp(s_ip / T) + sum_{j in H(i)} exp(s_ij / T) ) - mean_{p in P(i)} s_ip / T

H(i) are the k most similar negatives of row i, chosen anew at each step: online mining (OHEM, arXiv:1604.03540; in
metric learning, arXiv:1503.03832). Rows of equal id are positives or ignored, never among them.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from multicl.objectives.temperature import Tempered, one_width
from multicl.types import InputError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class HardestNegatives(Tempered):
    """Settings of the objective; with k at least the number of negatives it is InfoNCE."""

    temperature: float = 0.07
    _: KW_ONLY
    k: int = 32
    """Number of negatives of each row: the most similar ones of all ranks, queues and explicit negatives."""
    both_directions: bool = True
    """The mean of a->b and b->a; False: only a->b. A pair of one node has only one direction."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k < 1:
            raise InputError(f"HardestNegatives: k must be 1 or more, got {self.k}")

    def build(self, dims: tuple[int, int]) -> nn.Module:
        """The module; InputError where the two sides differ in width."""
        from multicl.objectives.softmax import SoftmaxObjective

        one_width(self, dims)
        return SoftmaxObjective(self, both_directions=self.both_directions, hardest=self.k)
