"""COLA's objective (arXiv:2010.10915, section 2): InfoNCE whose similarity is a matrix that is learnt.

    s_ij = g(a_i)^T W g(b_j),  g(z) = tanh(LayerNorm(z));   L = mean_i  log sum_j exp(s_ij / T) - s_ii / T

The rows of a ask among all rows of b; the negatives of a row are the other rows' b, also where a and b are two crops of
one node. Rows of equal id are positives, each with its own share. W is where the two sides may differ in width.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, ClassVar

from multicl.objectives.temperature import Tempered
from multicl.types import InputError, MoreKeys

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Bilinear(Tempered):
    """Settings of the objective; the paper knows no temperature, as W sets the size of the similarities.

    Of two nodes W alone compares the one with the other: what is embedded of them is not comparable by cosine, which
    searches and evaluations take.
    """

    temperature: float = 1.0
    _: KW_ONLY
    both_directions: bool = False
    """The mean of a->b and b->a; False: a->b alone, as the paper has it."""
    bounded: bool = True
    """g as above, LayerNorm without a scale and shift of its own; False: the vectors as the heads give them."""

    extras: ClassVar[tuple[MoreKeys, ...]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.similarity != "cosine":  # the other settings' default: here it would say nothing
            raise InputError(f"Bilinear: its similarity is its own matrix, got similarity={self.similarity!r}")

    def build(self, dims: tuple[int, int]) -> nn.Module:
        """The module, with W [Da, Db]."""
        from multicl.objectives.product import BilinearObjective

        return BilinearObjective(self, dims)
