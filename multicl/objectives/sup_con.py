"""SupCon (arXiv:2004.11362, equation 2: L_out, the mean over positives outside of the logarithm).

The pair's ids are the labels: `Pair("image", "image", SupCon(), ids="label")`. Rows without a label have ids of their
own, so labels on some of the rows give semi-supervision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from multicl.objectives.temperature import Tempered, one_width

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SupCon(Tempered):
    """Settings of the objective: InfoNCE's arithmetic at the paper's temperature."""

    temperature: float = 0.1

    def build(self, dims: tuple[int, int]) -> nn.Module:
        """The module; InputError where the two sides differ in width."""
        from multicl.objectives.softmax import SoftmaxObjective

        one_width(self, dims)
        return SoftmaxObjective(self)
