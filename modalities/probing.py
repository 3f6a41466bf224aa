"""Dry runs of a net before training, to find its output width, the input sizes it takes, or the effect of padding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def probing(net: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards, each module's own mode is restored, as some may be frozen."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
