"""Colour jitter by its Triton kernel, interpreted on a CPU: for processes that have TRITON_INTERPRET=1."""

from __future__ import annotations

import torch
from interpreted import interpret

from multicl.modalities.image import dense


def jittered(x: list[object], factors: list[object], order: list[list[int]]) -> object:
    """Pictures [B, 3, H, W], strengths [B, 4] and turns [B, T] as lists -> the pictures."""
    interpret()
    return dense.by_kernel(torch.tensor(x), torch.tensor(factors), torch.tensor(order)).tolist()
