"""A net in training, but for what is frozen; and one in evaluation for a while, for any number of threads at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

_LOCK = threading.Lock()  # here and not in the model, which is copied and pickled
_WITHIN: dict[nn.Module, tuple[int, dict[nn.Module, bool]]] = {}
"""Net -> how many are within, and what its modules' modes were before the first."""


def train(net: nn.Module) -> None:
    """All modules of a net train but what is frozen and was put in evaluation by hand: that stays as it is.

    By hand: it is in evaluation within a part in training, as a batch norm is after
    `norm.requires_grad_(False).eval()`. A net that is in evaluation as a whole is so because libraries hand pretrained
    ones over like that.
    """
    kept = [part for whole in net.modules() if whole.training for part in whole.children()]
    modes = [(m, m.training) for part in kept if not part.training and _frozen(part) for m in part.modules()]
    net.train()
    for module, training in modes:
        module.training = training


def _frozen(part: nn.Module) -> bool:
    """Whether it has something to move, and none of it is trained; a dropout has nothing."""
    tensors = [*part.parameters(), *part.buffers()]
    return bool(tensors) and not any(tensor.requires_grad for tensor in tensors)


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """All modules of a net are in evaluation until the last that came has left; then each is as it was."""
    with _LOCK:
        calls, modes = _WITHIN.get(net, (0, {}))
        if not calls:
            modes = {module: module.training for module in net.modules()}
            net.eval()
        _WITHIN[net] = calls + 1, modes
    try:
        yield
    finally:
        with _LOCK:
            calls, modes = _WITHIN.pop(net)
            if calls > 1:
                _WITHIN[net] = calls - 1, modes
            else:
                for module, training in modes.items():
                    module.training = training
