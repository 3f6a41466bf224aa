"""The bytes that a rank must send, counted in PyTorch's dispatcher, which every collective passes through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Traffic(TorchDispatchMode):
    """A context that counts the calls of each collective, and the bytes that this rank has to send for it.

    The minimum for a collective is counted (that of a ring algorithm), not what a backend happens to send: the same
    rule for everyone. A collective without a rule raises KeyError, so that none is missed.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()
        self.sent = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            name = func._schema.name.removeprefix("c10d::").rstrip("_")
            if name != "barrier":
                self.calls[name] += 1
                self.sent += _RULES[name](args, dist.get_rank(), dist.get_world_size())
        return func(*args, **(kwargs or {}))


def _bytes(tensors: Any) -> int:
    return sum(x.numel() * x.element_size() for x in tree_leaves(tensors) if isinstance(x, Tensor))


def _root(share: Callable[[Any, int], float], root: int) -> Callable[[Any, int, int], float]:
    return lambda args, rank, world: share(args, world) if rank == args[root] else 0.0


_RULES: dict[str, Callable[[Any, int, int], float]] = {  # arguments -> bytes; the order of arguments is PyTorch's
    "allgather": lambda args, rank, world: _bytes(args[1]) * (world - 1),
    "_allgather_base": lambda args, rank, world: _bytes(args[1]) * (world - 1),
    "allreduce": lambda args, rank, world: 2 * _bytes(args[0]) * (world - 1) / world,
    "reduce_scatter": lambda args, rank, world: _bytes(args[1]) * (world - 1) / world,
    "_reduce_scatter_base": lambda args, rank, world: _bytes(args[1]) * (world - 1) / world,
    "alltoall": lambda args, rank, world: _bytes(args[1]) * (world - 1) / world,
    "alltoall_base": lambda args, rank, world: _bytes(args[1]) * (world - 1) / world,
    "send": lambda args, rank, world: _bytes(args[0]),
    "recv": lambda args, rank, world: 0,
    "scatter": _root(lambda args, world: _bytes(args[1]) * (world - 1) / world, root=3),
    "broadcast": _root(lambda args, world: _bytes(args[0]) * (world - 1), root=2),
}
