"""InfoNCE (arXiv:1807.03748), CLIP's form (arXiv:2103.00020) across two nodes, NT-Xent (arXiv:2002.05709) within one.

    L = mean_i  log sum_j exp(s_ij / T) - mean_{p in P(i)} s_ip / T

Rows of equal id are positives of each other, each with its own share (SupCon's L_out, arXiv:2004.11362): labels as ids
make this SupCon, unique ids make it self-supervised.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Literal

from multicl.types import InputError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class InfoNCE:
    """Settings of the objective; `Pair("x", "x", InfoNCE(...))` is NT-Xent over two views of each row."""

    temperature: float = 0.07
    _: KW_ONLY
    learnable: bool = False
    """The temperature is a parameter (as 1/T on a log scale), kept at 0.01 or more as in CLIP."""
    both_directions: bool = True
    """The mean of a->b and b->a; False: a->b alone. A pair of one node has but one direction."""
    similarity: Literal["cosine", "dot"] = "cosine"

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(f"InfoNCE: temperature must be above 0, got {self.temperature}")

    def build(self, dims: tuple[int, int]) -> nn.Module:
        """The module; it compares vectors of one width.

        Raises:
            InputError: the two sides differ in width.
        """
        from multicl.objectives.softmax import SoftmaxObjective

        if dims[0] != dims[1]:
            raise InputError(f"InfoNCE compares vectors of one width, got {dims[0]} and {dims[1]}")
        return SoftmaxObjective(self)
