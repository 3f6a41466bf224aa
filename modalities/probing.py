"""A net is tried before it trains: for its width, for sizes that it takes, for what it makes of padding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def probing(net: nn.Module) -> Iterator[None]:
    """Without gradients and in evaluation; then each module is in its own mode again, as parts may be frozen."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
