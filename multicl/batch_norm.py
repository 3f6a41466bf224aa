"""Batch norm that can train on a single row, or on none; and the norms that heads and predictors can use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.nn.modules.batchnorm import _BatchNorm


class BatchNorm(nn.BatchNorm1d):
    """torch's BatchNorm1d for [B, D] rows, except that a single row is normalised by the running statistics.

    A single row has no variance. It occurs if most rows of a batch lack the modality. Running statistics are then not
    updated, nor for a batch of no rows.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] -> [B, D]."""
        if not self.training or len(x) > 1 or self.running_mean is None or self.running_var is None:
            return super().forward(x)
        return by_statistics(self, x)


def by_statistics(norm: _BatchNorm, x: Tensor) -> Tensor:
    """Normalise [B, D] by a norm's running statistics, without updating them."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    before = norm.running_mean.clone(), norm.running_var.clone()  # a later forward may update them before backward
    return nn.functional.batch_norm(x, *before, norm.weight, norm.bias, False, 0.0, norm.eps)


NORMS: dict[str, Callable[[int], nn.Module]] = {"none": nn.Identity, "batch": BatchNorm, "layer": nn.LayerNorm}
"""Name in the settings -> constructor of the norm for a given width."""
