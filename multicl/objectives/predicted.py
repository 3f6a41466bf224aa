"""A predictor (BYOL, arXiv:2006.07733; MoCo v3, arXiv:2104.02057): queries pass through an MLP, their keys do not.

It belongs to the objective, not to a head: momentum towers have none, and chunks and exports need none.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Literal

from multicl.choices import check_settings
from multicl.objectives.instance_nce import InstanceNCE
from multicl.objectives.nt_xent import NTXent
from multicl.objectives.prototypes import SwAV
from multicl.objectives.wrapper import Wrapper, check_objective
from multicl.types import InputError, Objective

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Predicted(Wrapper):
    """Settings of the objective: another objective, whose queries first pass through an MLP. For `keys="momentum"`."""

    objective: Objective
    _: KW_ONLY
    hidden: int = 4096
    """Width of the MLP's one hidden layer."""
    norm: Literal["none", "batch", "layer"] = "batch"
    """Normalisation of the hidden layer; "batch" normalises over the rows of one rank, as in a head."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_objective("Predicted", self.objective)
        if self.hidden < 1:
            raise InputError(f"Predicted's hidden must be 1 or more, got {self.hidden}")
        if isinstance(self.objective, NTXent | SwAV | InstanceNCE | Predicted):
            raise InputError(f"Predicted cannot wrap {type(self.objective).__name__}: use InfoNCE")
        if self.scores:
            raise InputError(
                f"Predicted cannot wrap {type(self.objective).__name__}: it needs momentum keys, which a pair with a "
                "target does not have"
            )

    def build(self, dims: tuple[int, int]) -> nn.Module:
        """The module; a prediction is as wide as the keys."""
        from multicl.objectives.predictor import PredictedObjective

        return PredictedObjective(self, dims)
