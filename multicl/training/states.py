"""State that a forward pass changes besides norms' statistics: spectral norm's vectors, a codebook's moving averages.

It may influence the output. So a chunk is replayed from the state in which it was embedded, and the replay's changes
are undone: as with norms, state changes once per chunk. Only buffers are covered, not what a module keeps elsewhere.
Integer tables, such as GPT-2's masks of 12 MB, are taken to be constant and are not copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


def states(module: nn.Module) -> list[Tensor]:
    """Copies of the floating-point and scalar buffers of submodules in training mode that are not norms."""
    return [buffer.clone() for buffer in _buffers(module)]


@torch.no_grad()
def set_states(module: nn.Module, values: Sequence[Tensor]) -> None:
    """Write `values` back to where `states` copied them from."""
    for buffer, value in zip(_buffers(module), values, strict=True):
        buffer.copy_(value)


@contextmanager
def states_kept(module: nn.Module) -> Iterator[None]:
    """Restore these buffers on exit."""
    before = states(module)
    try:
        yield
    finally:
        set_states(module, before)


def _buffers(module: nn.Module) -> list[Tensor]:
    parts = (part for part in module.modules() if part.training and not isinstance(part, _NormBase))
    buffers = (buffer for part in parts for buffer in part._buffers.values() if buffer is not None)
    return [buffer for buffer in buffers if buffer.is_floating_point() or buffer.numel() == 1]
