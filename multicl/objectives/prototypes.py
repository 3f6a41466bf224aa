"""SwAV (arXiv:2006.09882): two views of a row should belong to the same prototypes; clusters replace negatives.

    L = -1/N sum_i sum_k q_ik log softmax_k(a_i . c_k / T);   q: the codes of b

Codes spread the rows of all ranks evenly over the prototypes: a few Sinkhorn-Knopp iterations on
exp(b_i . c_k / epsilon). Rows and prototypes are unit vectors; ids are not used. Whole views predict each other, and
small ones (a pair's `local_draws`) predict whole ones. Codes have no gradient.
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
class SwAV:
    """Settings of the objective; the defaults are the paper's for ImageNet. Small data needs fewer prototypes.

    If a batch (of all ranks) has fewer rows than prototypes, give the pair a `queue`: its keys are clustered, too.
    """

    prototypes: int = 3000
    """Number of prototypes; the paper finds that it matters little once it is well above the number of classes."""
    _: KW_ONLY
    temperature: float = 0.1
    """Temperature of the soft-max that predicts the codes."""
    epsilon: float = 0.05
    """Smoothness of the codes: near 0 they are one-hot, far above it all prototypes share each row."""
    iterations: int = 3
    """Sinkhorn-Knopp iterations: the more, the more evenly rows are spread over prototypes."""
    frozen_steps: int = 313
    """Number of first steps in which the prototypes do not move; the paper's 313 are an epoch of ImageNet."""

    extras: ClassVar[tuple[MoreKeys, ...]] = ("queue",)

    def __post_init__(self) -> None:
        check_settings(self)
        for name, least in (("prototypes", 2), ("iterations", 1), ("frozen_steps", 0)):
            if getattr(self, name) < least:
                raise InputError(f"SwAV: {name} must be {least} or more, got {getattr(self, name)}")
        for name in ("temperature", "epsilon"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"SwAV: {name} must be above 0, got {getattr(self, name)}")

    def build(self, dims: tuple[int, int]) -> nn.Module:
        """The module; InputError where the two sides differ in width."""
        from multicl.objectives.clusters import SwAVObjective

        one_width(self, dims)
        return SwAVObjective(self, dims[0])
