"""Matryoshka representations (arXiv:2205.13147): the first coordinates alone are an embedding, too.

    L = mean over widths d of L_objective(z[:, :d])

The mean and not the paper's sum, so that learning rates carry over.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from multicl.objectives.instance_nce import InstanceNCE
from multicl.objectives.nt_xent import NTXent
from multicl.objectives.prototypes import SwAV
from multicl.objectives.temperature import one_width
from multicl.objectives.wrapper import Wrapper, check_objective
from multicl.types import InputError, Objective

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Matryoshka(Wrapper):
    """Settings of the objective: another objective, at several widths and at the whole width."""

    objective: Objective
    _: KW_ONLY
    dims: tuple[int, ...]
    """Widths besides the whole, such as (64, 128, 256): vectors may later be cut there, and normalised again."""

    def __post_init__(self) -> None:
        check_objective("Matryoshka", self.objective)
        dims = self.dims if isinstance(self.dims, tuple | list) else ()
        whole = all(isinstance(width, int) and width > 0 for width in dims)
        if not dims or not whole or len(set(dims)) < len(dims):
            raise InputError(f"Matryoshka's dims must be different widths, 1 or more, got {self.dims!r}")
        if isinstance(self.objective, NTXent | SwAV | InstanceNCE | Matryoshka):
            raise InputError(f"Matryoshka cannot wrap {type(self.objective).__name__}: use InfoNCE")

    def build(self, dims: tuple[int, int]) -> nn.Module:
        """The module; InputError where the two sides differ in width, or are not wider than the settings' dims."""
        from multicl.objectives.nested import MatryoshkaObjective

        one_width(self, dims)
        if max(self.dims) >= dims[0]:
            raise InputError(f"Matryoshka's dims {self.dims} must be smaller than the embedding's width {dims[0]}")
        return MatryoshkaObjective(self, dims[0])
