"""COLA's objective (arXiv:2010.10915, section 2): InfoNCE with a learnt bilinear similarity.

    s_ij = g(a_i)^T W g(b_j),  g(z) = tanh(LayerNorm(z));   L = mean_i  log sum_j exp(s_ij / T) - s_ii / T

Each row of a is a query against all rows of b. Its negatives are the b of other rows, even where a and b are two crops
of one node. Rows of equal id are positives, each with its own share. W [Da, Db] lets the two sides differ in width.
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
    """Settings of the objective; the paper has no temperature, as W sets the scale of the similarities.

    Only W compares one node with another: embeddings of two nodes are not comparable by cosine, which searches and
    evaluations use.
    """

    temperature: float = 1.0
    _: KW_ONLY
    both_directions: bool = False
    """The mean of a->b and b->a; False: only a->b, as in the paper."""
    bounded: bool = True
    """The paper's g, tanh(LayerNorm(z)) with no learnt scale or shift; False: the vectors as the heads give them."""

    extras: ClassVar[tuple[MoreKeys, ...]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.similarity != "cosine":  # inherited, but without effect here
            raise InputError(f"Bilinear compares by its own matrix: leave out similarity={self.similarity!r}")

    def build(self, dims: tuple[int, int]) -> nn.Module:
        """The module, with W [Da, Db]."""
        from multicl.objectives.product import BilinearObjective

        return BilinearObjective(self, dims)
