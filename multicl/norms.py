"""BatchNorm's running statistics where a batch is computed in chunks, twice, and on several ranks.

They move once a chunk, when it is first embedded, and hold still in its replay. Each rank keeps its own while it
trains; before towers are evaluated or saved, they become the mean over ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from multicl.distributed import World
from multicl.types import InputError


@contextmanager
def statistics_held(module: nn.Module) -> Iterator[None]:
    """Norms that train use the statistics of what they see, as ever, and remember nothing of it."""
    norms = _moving(module)
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


@torch.no_grad()
def average_statistics(module: nn.Module, world: World) -> None:
    """Set the running statistics of norms that train to their mean over ranks; all ranks call it."""
    tracked = [(norm.running_mean, norm.running_var, norm.num_batches_tracked) for norm in _moving(module)]
    buffers = [buffer for three in tracked for buffer in three if buffer is not None]
    if world.size == 1 or not buffers:
        return
    mean = world.sum(torch.cat([buffer.flatten().float() for buffer in buffers])) / world.size
    for buffer, values in zip(buffers, mean.split([buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(values.view_as(buffer))


def refuse_synced(module: nn.Module, world: World) -> None:
    """SyncBatchNorm waits for the other ranks in every chunk, and ranks may have unequal numbers of chunks.

    Raises:
        InputError: there is one, and more than one rank.
    """
    if world.size > 1 and any(isinstance(m, nn.SyncBatchNorm) for m in module.modules()):
        raise InputError(
            "SyncBatchNorm cannot be computed in chunks on several processes: use BatchNorm, LayerNorm or GroupNorm, "
            "or leave train.chunk_size at none"
        )


def _moving(module: nn.Module) -> list[_NormBase]:
    return [m for m in module.modules() if isinstance(m, _NormBase) and m.training and m.track_running_stats]
