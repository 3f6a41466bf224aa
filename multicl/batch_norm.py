"""Batch norm that can train on a single row, or on none, and the norms that heads and predictors may have."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class BatchNorm(nn.BatchNorm1d):
    """torch's of [B, D] rows; one row alone, which has no variance, is normalised by the running statistics.

    They stay as they are then, and where there is no row at all. A batch may have a single row of a modality that most
    rows lack.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] -> [B, D]."""
        if not self.training or len(x) > 1 or self.running_mean is None or self.running_var is None:
            return super().forward(x)
        before = self.running_mean.clone(), self.running_var.clone()  # more rows may move them before backward
        return nn.functional.batch_norm(x, *before, self.weight, self.bias, False, 0.0, self.eps)


NORMS: dict[str, Callable[[int], nn.Module]] = {"none": nn.Identity, "batch": BatchNorm, "layer": nn.LayerNorm}
"""Name, as settings have it -> what makes the norm of a width."""
