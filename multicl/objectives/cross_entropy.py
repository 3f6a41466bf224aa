"""Cross-entropy of a linear classifier on the rows that have a label, beside contrastive terms on all rows.

    L = -1/N sum_{i labelled} log softmax(W h_i + b)_{y_i};   N: the labelled rows of all ranks

The supervised half of a semi-supervised loss (S4L, arXiv:1905.03670).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from multicl.choices import check_settings
from multicl.types import InputError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class CrossEntropy:
    """Settings of a Target's objective."""

    smoothing: float = 0.0
    """Share of each label that is spread over all classes, in [0, 1)."""

    def __post_init__(self) -> None:
        check_settings(self)
        if not 0 <= self.smoothing < 1:
            raise InputError(f"CrossEntropy: smoothing must be in [0, 1), got {self.smoothing}")

    def build(self, dims: tuple[int, int]) -> nn.Module:
        """The module; dims: the width of the features and the number of classes."""
        from multicl.objectives.classifier import Classifier

        return Classifier(self, *dims)
