"""Running statistics of norm layers when a batch is processed in chunks, in two passes and on several ranks.

They are updated once per chunk, when it is first embedded, and not in its replay. Each rank trains with its own. To
evaluate or save towers, they are set to the mean over ranks; training then continues with each rank's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from multicl.distributed import World
from multicl.types import InputError


@contextmanager
def statistics_held(module: nn.Module) -> Iterator[None]:
    """Within it, norms in training mode still use batch statistics, but do not update their running ones."""
    norms = _moving(module)
    instance = nn.ModuleList(norm for norm in norms if isinstance(norm, _InstanceNorm))
    with statistics_kept(instance):  # these update theirs whatever `track_running_stats` says
        for norm in norms:
            norm.track_running_stats = False
        try:
            yield
        finally:
            for norm in norms:
                norm.track_running_stats = True


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Restore the running statistics of norms in training mode on exit, even if layers were recomputed in between."""
    buffers = _buffers(module)
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, old in zip(buffers, before, strict=True):
            buffer.copy_(old)


def statistics(module: nn.Module) -> Tensor:
    """[n] float32 on the CPU: the running statistics of norms in training mode, concatenated."""
    return torch.cat([torch.zeros(0), *(buffer.flatten().float().cpu() for buffer in _buffers(module))])


@torch.no_grad()
def set_statistics(module: nn.Module, values: Tensor) -> None:
    """Write [n] values back to where `statistics` read them."""
    buffers = _buffers(module)
    for buffer, mine in zip(buffers, values.split([buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(mine.view_as(buffer))


def average_statistics(module: nn.Module, world: World) -> Tensor:
    """Set the running statistics of norms in training mode to their mean over ranks; all ranks call it.

    Returns:
        [W, n] the statistics of each rank before, so that a rank can restore its own.
    """
    mine = statistics(module)
    if world.size == 1 or not len(mine):
        return mine.repeat(world.size, 1)
    device = next(module.parameters()).device
    every = world.gather(mine[None].to(device)).cpu()
    set_statistics(module, every.mean(0))
    return every


def refuse_synced(module: nn.Module, world: World) -> None:
    """Refuse SyncBatchNorm: it waits for all ranks in every chunk, and ranks may have different numbers of chunks.

    Raises:
        InputError: the module has a SyncBatchNorm, and there is more than one rank.
    """
    if world.size > 1 and any(isinstance(m, nn.SyncBatchNorm) for m in module.modules()):
        raise InputError(
            "SyncBatchNorm cannot be computed in chunks on several processes: use BatchNorm, LayerNorm or GroupNorm, "
            "or leave train.chunk_size at none"
        )


def _buffers(module: nn.Module) -> list[Tensor]:
    tracked = [(norm.running_mean, norm.running_var, norm.num_batches_tracked) for norm in _moving(module)]
    return [buffer for three in tracked for buffer in three if buffer is not None]


def _moving(module: nn.Module) -> list[_NormBase]:
    return [m for m in module.modules() if isinstance(m, _NormBase) and m.training and m.track_running_stats]
