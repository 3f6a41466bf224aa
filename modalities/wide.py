"""Nets that a user made 64 bits wide: nothing but inputs of as many bits fits them, and autocast leaves them alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def as_wide(net: nn.Module, x: Tensor) -> Tensor:
    """What a net is given, float32: float64 where its parameters are."""
    p = next((p for p in net.parameters() if p.is_floating_point()), x)
    return x.double() if p.dtype == torch.float64 else x
