"""A net in evaluation for a while, for any number of threads at once."""

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
