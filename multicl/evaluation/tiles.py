"""Tiles of a similarity matrix: how much of it is held at once, and which rank computes which part."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from multicl.distributed import World

NUMBERS = 1 << 22
"""Most elements of a tile, 16 MB in float32: memory grows with N + M, not with N * M."""


def tile_rows(chunk: int, others: int) -> int:
    """Rows of a tile: `chunk`, or fewer where each is compared with many others."""
    return max(1, min(chunk, NUMBERS // max(1, others)))


def by_slices(rows: int, size: int, part: Callable[[slice], Tensor], empty: Tensor, world: World) -> Tensor:
    """Apply `part` to consecutive slices of `rows` rows, and concatenate what it returns: [rows, ...].

    Each of W ranks computes every W-th slice, and all get the whole. The slices are those that a single rank would
    compute, so the result is the same bit for bit. All ranks must call it, with the same rows.

    Args:
        size: rows of a slice. part: slice -> [its rows, ...].
        empty: [0, ...] of the dtype and shape that `part` returns, for a rank that has no slice.
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
