"""How much of a similarity matrix is held at once, and which rank makes which part of it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from multicl.distributed import World

NUMBERS = 1 << 22
"""Of a tile: 16 MB of float32. Memory grows with rows + rows, not with rows * rows."""


def tile_rows(chunk: int, others: int) -> int:
    """`chunk` rows, or fewer where each is compared with many others."""
    return max(1, min(chunk, NUMBERS // max(1, others)))


def by_slices(rows: int, size: int, part: Callable[[slice], Tensor], empty: Tensor, world: World) -> Tensor:
    """`part` of consecutive slices of `rows` rows, joined: [rows, ...].

    Over several ranks each computes every W-th slice and all get the whole: the very slices that one rank would
    compute, and so the very same bits. All ranks must call it, with the same rows.

    Args:
        size: rows of a slice. part: slice -> [its rows, ...].
        empty: [0, ...] of the type and shape that `part` gives, for a rank that has no slice.
    """
    slices = [slice(at, min(at + size, rows)) for at in range(0, rows, size)]
    mine = [part(s) for s in slices[world.rank :: world.size]]
    if world.size == 1:
        return torch.cat([empty, *mine])
    lengths = [[s.stop - s.start for s in slices[rank :: world.size]] for rank in range(world.size)]
    counts = [sum(of_rank) for of_rank in lengths]
    every = world.all_rows(torch.cat([empty, *mine]), counts).split(counts)
    dealt = [iter(whole.split(n)) for whole, n in zip(every, lengths, strict=True)]
    return torch.cat([empty, *(next(dealt[i % world.size]) for i in range(len(slices)))])
