"""The inputs, the same for every implementation and dtype: two views of B things, not normalised."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TEMPERATURE = {"nt_xent": 0.5, "info_nce": 0.07, "info_nce_one": 0.07, "sup_con": 0.1}
SCALE, BIAS = 10.0, -10.0
SYMMETRIC = ("nt_xent", "sup_con")
"""Losses that contrast the 2B rows of both views with each other; the other losses contrast B rows with B."""


@dataclass(frozen=True)
class Inputs:
    """The inputs of a loss, differentiated with respect to `learnt`: a, b, and any scalars the peers learn."""

    a: Tensor
    """[B, D]"""
    b: Tensor
    """[B, D]"""
    labels: Tensor
    """[2B] int64 classes of the rows of a, then of b; four things per class."""
    temperature: Tensor
    """[], a leaf."""
    scale: Tensor
    """[], a leaf, for the sigmoid loss."""
    bias: Tensor
    """[], a leaf, for the sigmoid loss."""
    learnt: tuple[Tensor, ...]


def make_inputs(
    loss: str, batch: int, dim: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Inputs:
    """Inputs drawn in float32 from a fixed seed, so that float64 gets exactly the same values."""
    draw = torch.Generator().manual_seed(batch * 1000 + dim)
    a = 3 * torch.randn(batch, dim, generator=draw)
    b = a + 6 * torch.randn(batch, dim, generator=draw)  # cosine of a pair about 0.45: neither solved nor random

    def leaf(x: Tensor | float) -> Tensor:
        return torch.as_tensor(x).to(device, dtype).detach().requires_grad_()

    a, b = leaf(a), leaf(b)
    temperature, scale, bias = leaf(TEMPERATURE.get(loss, 1.0)), leaf(SCALE), leaf(BIAS)
    more = {"info_nce": (temperature,), "sigmoid": (scale, bias)}.get(loss, ())
    labels = (torch.arange(batch, device=device) // 4).repeat(2)
    return Inputs(a, b, labels, temperature, scale, bias, (a, b, *more))
