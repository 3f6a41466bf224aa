"""World: the ranks of this run. The only file that imports torch.distributed.

Gradients: each rank's backward yields W times its share of the one-process gradient, so that DistributedDataParallel's
mean over ranks is exactly the one-process gradient. W enters in one place: `World.mean`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

WAIT = timedelta(hours=3)
"""How long processes wait for one another: the first one evaluates, and NCCL's own limit is 10 minutes."""

_apart = 0
"""How many `alone` contexts this process is in."""


@dataclass(frozen=True)
class World:
    """`size` processes of which this is `rank`; every method is a collective that all ranks enter in the same order."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def current() -> World:
        """The default process group, or a world of one if none is initialised or inside `alone`."""
        if not _apart and dist.is_available() and dist.is_initialized():
            return World(dist.get_rank(), dist.get_world_size())
        return World()

    def sum(self, x: Tensor) -> Tensor:
        """Sum over ranks of a tensor of the same shape on each; no gradient."""
        if self.size == 1:
            return x.detach()
        total = x.detach().clone()
        dist.all_reduce(total, group=_group_of(total))
        return total

    def any(self, flag: bool, device: torch.device | str = "cpu") -> bool:
        """Whether the flag is set on any rank."""
        return bool(self.sum(torch.tensor(float(flag), device=device)) > 0)

    def agree(self, *flags: bool) -> list[bool]:
        """Which flags are set on any rank. They are exchanged between CPUs, without synchronising with a GPU."""
        if self.size == 1:
            return list(flags)
        up = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(up, dist.ReduceOp.MAX, group=_between_processors(dist.group.WORLD))
        return [bool(x) for x in up]

    def barrier(self) -> None:
        """Wait for every rank."""
        if self.size > 1:
            dist.barrier()

    @torch.no_grad()
    def as_first(self, tensors: Iterable[Tensor]) -> None:
        """Broadcast the first rank's tensors, of the same shapes on every rank, in place."""
        for x in tensors:
            whole = x.detach().contiguous()
            dist.broadcast(whole, 0, group=_group_of(whole))
            x.copy_(whole)

    def deal(self, parts: Sequence[Any] | None = None) -> Any:
        """This rank's part of the first rank's parts, one for each rank: any picklable objects, sent between CPUs."""
        mine = [None]
        dist.scatter_object_list(mine, list(parts) if parts else None, group=_between_processors(dist.group.WORLD))
        return mine[0]

    def collect(self, x: Any) -> list[Any]:
        """Gather an object of each rank on the first; [] on the others. Any picklable objects, sent between CPUs."""
        every = [None] * self.size if self.rank == 0 else None
        dist.gather_object(x, every, group=_between_processors(dist.group.WORLD))
        return every or []

    def counts(self, rows: int, device: torch.device) -> list[int]:
        """How many rows each rank has, in rank order."""
        if self.size == 1:
            return [rows]
        mine = torch.zeros(self.size, dtype=torch.int64, device=device)
        mine[self.rank] = rows
        found: list[int] = self.sum(mine).tolist()  # all at once: each read synchronises with a GPU
        return found

    def max(self, x: Tensor) -> Tensor:
        """Maximum over ranks of a tensor of the same shape on each; no gradient."""
        if self.size == 1:
            return x.detach()
        most = x.detach().clone()
        dist.all_reduce(most, dist.ReduceOp.MAX, group=_group_of(most))
        return most

    def all_rows(self, x: Tensor, counts: Sequence[int]) -> Tensor:
        """[counts[r], ...] of each rank -> [sum counts, ...] in rank order; no gradient."""
        if self.size == 1:
            return x.detach()
        padded = _padded(x.detach(), max(counts))  # ranks may hold unequal numbers of rows; collectives may not
        every = padded.new_empty(self.size * max(counts), *x.shape[1:])
        dist.all_gather_into_tensor(every, padded, group=_group_of(padded))
        return torch.cat([part[:n] for part, n in zip(every.chunk(self.size), counts, strict=True)])

    def sum_home(self, x: Tensor, counts: Sequence[int]) -> Tensor:
        """[sum counts, ...] on every rank -> [counts[rank], ...]: this rank's rows, summed over ranks; no gradient."""
        if self.size == 1:
            return x.detach()
        longest = max(counts)
        parts = torch.cat([_padded(part, longest) for part in x.detach().split(list(counts))])
        home = parts.new_empty(longest, *x.shape[1:])
        dist.reduce_scatter_tensor(home, parts, group=_group_of(parts))
        return home[: counts[self.rank]]

    def gather(self, x: Tensor) -> Tensor:
        """[n_r, ...] of each rank -> [sum n_r, ...] in rank order; ranks may hold different numbers of rows, or none.

        Differentiable: backward gives this rank's rows the sum of their gradients on all ranks.
        """
        if self.size == 1:
            return x
        return _Gather.apply(x, self)  # type: ignore[no-any-return,no-untyped-call]

    def mean(self, values: Tensor, valid: Tensor) -> Tensor:
        """Mean of the valid rows of all ranks.

        Args:
            values: [n_r] of this rank. valid: [n_r] bool; invalid rows count nowhere, and their values may be anything.

        Returns:
            Scalar, the same on every rank; 0 where no rank has a valid row. Backward: W * valid / max(count, 1).
        """
        kept = torch.where(valid, values, 0.0)
        count = self.sum(valid.sum()).clamp(min=1)
        if self.size == 1:
            return kept.sum() / count
        return _Total.apply(kept.sum() / count, self)  # type: ignore[no-any-return,no-untyped-call]


@contextmanager
def alone() -> Iterator[None]:
    """Inside this context the current world is this process: other ranks' rows are no keys, and no rank is waited for.

    Use it for a loss on one rank while the others go on, as in validation, or for losses over each rank's own rows, of
    which DistributedDataParallel then averages the gradients.
    """
    global _apart
    _apart += 1
    try:
        yield
    finally:
        _apart -= 1


def of_another(error: BaseException) -> bool:
    """Whether an error of this rank only says that another rank is gone, whose own error says why."""
    if World.current().size == 1:  # first: a torch built without torch.distributed lacks its errors
        return False
    return isinstance(error, dist.DistError) or (type(error) is RuntimeError and "gloo/transport" in str(error))


@cache
def _between_processors(ranks: Any) -> Any:
    """The same ranks over gloo, which takes CPU tensors."""
    return ranks if "cpu:gloo" in dist.get_backend_config(ranks) else dist.new_group(backend="gloo", timeout=WAIT)


def _group_of(x: Tensor) -> Any:
    """The process group that takes such a tensor: NCCL, the default one's backend on GPUs, takes no CPU tensors."""
    return _between_processors(dist.group.WORLD) if x.device.type == "cpu" else dist.group.WORLD


def part() -> None:
    """Leave the process groups for good: at the end of a process, before Python shuts down.

    A thread of gloo's may hold the tensors of the last collective for a while. If it releases them while Python shuts
    down, it aborts the process (https://github.com/pytorch/pytorch/pull/179291). Leaving waits for it.
    """
    _between_processors.cache_clear()
    if dist.is_initialized():
        dist.destroy_process_group()


class _Total(torch.autograd.Function):
    """Forward: the sum over ranks. Backward: W times the gradient, for this rank's part."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, world: World) -> Tensor:
        ctx.size = world.size
        return world.sum(mine)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.size, None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, world: World) -> Tensor:
        ctx.world, ctx.counts = world, world.counts(len(x), x.device)
        return world.all_rows(x, ctx.counts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.world.sum_home(grads[0], ctx.counts), None


def _padded(x: Tensor, rows: int) -> Tensor:
    if len(x) == rows:
        return x.contiguous()
    padded = x.new_zeros(rows, *x.shape[1:])
    padded[: len(x)] = x
    return padded
