"""Trying a net before it trains: for its width, for the sizes that it takes, for the effect of padding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def probing(net: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards each module has its own mode back, as parts may be frozen."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
