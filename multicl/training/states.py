"""What moves in a forward pass beside norms' statistics: spectral norm's vectors, averages that a codebook keeps.

It may decide what the pass gives. So a chunk is computed again from the state from which it was embedded, and what its
replay moves is taken back: as with norms, all of it moves once a chunk. What a module keeps elsewhere than in buffers
is not known here. Whole tables of integers, such as GPT-2's masks of 12 MB, do not move and are not copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


def states(module: nn.Module) -> list[Tensor]:
    """Copies of the buffers, numbers or counters, of parts that train and are no norms."""
    return [buffer.clone() for buffer in _buffers(module)]


@torch.no_grad()
def set_states(module: nn.Module, values: Sequence[Tensor]) -> None:
    """Put them where `states` took them."""
    for buffer, value in zip(_buffers(module), values, strict=True):
        buffer.copy_(value)


@contextmanager
def states_kept(module: nn.Module) -> Iterator[None]:
    """They are afterwards what they were before."""
    before = states(module)
    try:
        yield
    finally:
        set_states(module, before)


def _buffers(module: nn.Module) -> list[Tensor]:
    parts = (part for part in module.modules() if part.training and not isinstance(part, _NormBase))
    buffers = (buffer for part in parts for buffer in part._buffers.values() if buffer is not None)
    return [buffer for buffer in buffers if buffer.is_floating_point() or buffer.numel() == 1]
