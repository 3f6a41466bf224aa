"""BatchNorm over the rows of all processes: statistics and gradients equal those of one process with all rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from multicl.batch_norm import BatchNorm
from multicl.distributed import World
from multicl.types import InputError

if TYPE_CHECKING:
    from multicl.training.looks import Look

PLAIN = (BatchNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class SyncedBatchNorm(_BatchNorm):
    """`nn.SyncBatchNorm`, which runs on GPUs only, for CPUs."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [B, C, ...]; B may differ between ranks and be 0. All ranks must call it, in the same order."""
        if not self.training:
            out: Tensor = super().forward(x)
            return out
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        dims = [d for d in range(x.ndim) if d != 1]
        if len(x):
            var, mean = torch.var_mean(wide, dims, correction=0)
        else:  # no rows, but this rank must take part in the collectives of forward and backward
            var = mean = wide.sum(dims)
        count = mean.new_tensor([x.numel() / x.shape[1]])
        every = World.current().gather(torch.cat([mean, var, count])[None])  # [W, 2 C + 1]
        means, variances, counts = every.split([x.shape[1], x.shape[1], 1], 1)
        total = counts.sum()
        share = counts / total
        mean = (share * means).sum(0)
        var = (share * (variances + (means - mean).square())).sum(0)
        if self.track_running_stats:
            self._remember(mean, var * (total / (total - 1).clamp(min=1)))
        shape = [-1 if d == 1 else 1 for d in range(x.ndim)]
        factor = (var + self.eps).rsqrt() * (1 if self.weight is None else self.weight)
        out = (wide - mean.view(shape)) * factor.view(shape)
        return (out if self.bias is None else out + self.bias.view(shape)).to(x.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any input of two dimensions or more."""

    @torch.no_grad()
    def _remember(self, mean: Tensor, var: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(var.to(self.running_var.dtype), share)


def synchronise(module: nn.Module, gpu: bool = False) -> None:
    """Replace every batch norm by a synchronised one with the same parameters and statistics, in place.

    Args:
        gpu: use torch's SyncBatchNorm, which is faster but runs on GPUs only.

    Raises:
        InputError: a norm is of another class, which may do more than normalise (timm's include activations).
    """
    for name, norm in list(module.named_children()):
        if type(norm) not in PLAIN:
            if isinstance(norm, _BatchNorm) and not isinstance(norm, nn.SyncBatchNorm | SyncedBatchNorm):
                raise InputError(
                    f"train.sync_batch_norm cannot synchronise {name!r}, a {type(norm).__name__}: give an encoder with "
                    "torch's own BatchNorm, or one that is synchronised already"
                )
            synchronise(norm, gpu)
            continue
        assert isinstance(norm, _BatchNorm)
        kind = nn.SyncBatchNorm if gpu else SyncedBatchNorm
        synced = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        synced._parameters, synced._buffers, synced.training = norm._parameters, norm._buffers, norm.training
        setattr(module, name, synced)


def refuse_absent(looks: Sequence[Look], world: World) -> None:
    """Refuse a batch in which a rank has no rows of a view: the other ranks' norms would wait for it for ever.

    Raises:
        InputError: on every rank, if any rank has no rows of a view.
    """
    absent = [look.readers[0].view.node for look in looks if look.batch is None]
    if any(world.agree(bool(absent))):
        raise InputError(
            f"train.sync_batch_norm needs rows of every modality on every process, but one has none"
            f"{f' of {absent[0]!r}' if absent else ''} in a batch: give a larger --train.batch-size, or leave it off"
        )
