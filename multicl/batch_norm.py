"""Batch norm that can train on a single row, or on none, and the norms that heads and predictors may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.nn.modules.batchnorm import _BatchNorm


class BatchNorm(nn.BatchNorm1d):
    """torch's of [B, D] rows; one row alone, which has no variance, is normalised by the running statistics.

    They stay as they are then, and where there is no row at all. A batch may have a single row of a modality that most
    rows lack.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] -> [B, D]."""
        if not self.training or len(x) > 1 or self.running_mean is None or self.running_var is None:
            return super().forward(x)
        return by_statistics(self, x)


def by_statistics(norm: _BatchNorm, x: Tensor) -> Tensor:
    """[B, D] normalised by what a norm remembers, which stays as it is."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    before = norm.running_mean.clone(), norm.running_var.clone()  # more rows may move them before backward
    return nn.functional.batch_norm(x, *before, norm.weight, norm.bias, False, 0.0, norm.eps)


NORMS: dict[str, Callable[[int], nn.Module]] = {"none": nn.Identity, "batch": BatchNorm, "layer": nn.LayerNorm}
"""Name, as settings have it -> what makes the norm of a width."""
