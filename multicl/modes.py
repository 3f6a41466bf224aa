"""Sets training mode while respecting frozen parts, and evaluation mode temporarily, for any number of threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

_LOCK = threading.Lock()  # not in the model, which is copied and pickled
_WITHIN: dict[nn.Module, tuple[int, dict[nn.Module, bool]]] = {}
"""Net -> (number of active `evaluating` blocks, each module's mode before the first of them)."""


def train(net: nn.Module) -> None:
    """Put a net in training mode, except frozen parts that the user put in evaluation mode.

    Those are recognised by being in evaluation mode inside a part in training mode, such as a batch norm after
    `norm.requires_grad_(False).eval()`. A net that is in evaluation mode as a whole does not count: that is how
    libraries return pretrained nets.
    """
    kept = [part for whole in net.modules() if whole.training for part in whole.children()]
    modes = [(m, m.training) for part in kept if not part.training and _frozen(part) for m in part.modules()]
    net.train()
    for module, training in modes:
        module.training = training


def _frozen(part: nn.Module) -> bool:
    """Whether it has parameters or buffers, none of which requires a gradient; a dropout has neither."""
    tensors = [*part.parameters(), *part.buffers()]
    return bool(tensors) and not any(tensor.requires_grad for tensor in tensors)


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put a net in evaluation mode; when the last block on it exits, each module's previous mode is restored."""
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
