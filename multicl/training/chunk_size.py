"""The number of rows that encoders process at once: given, or the largest that fits in memory, found before step 1.

On an accelerator it is found by trying: the whole batch first, then half of it, and so on. On a CPU, where the system
kills a process that uses too much memory, it is estimated from free memory and from what the graph of a few rows holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import psutil
import torch
from torch import Tensor

from multicl.distributed import World
from multicl.towers import Towers
from multicl.training.chunks import cut
from multicl.training.looks import Look
from multicl.training.norms import refuse_synced, statistics_held
from multicl.training.states import states_kept
from multicl.types import InputError

SHARE = 0.4
"""Share of a CPU's free memory that graphs may take; backward, the loss and the loader need the rest."""
SPARE = 0.1
"""Share of an accelerator's memory that a trial reserves for the loss and for longer rows in later batches."""
FEW = 16
"""Number of rows whose graph is measured."""

Fits = Callable[[int, bool], bool]
"""(rows per chunk, whether that is the whole batch) -> whether the graphs that a step holds at once fit in memory."""


class ChunkSize:
    """The number of rows that encoders process at once, the same on every rank.

    Args:
        wanted: the setting `train.chunk_size`. most: largest number of rows of one view on a rank.
    """

    def __init__(self, wanted: int | Literal["auto"] | None, most: int) -> None:
        self.most = most
        self.auto = wanted == "auto"
        self.size = None if wanted == "auto" else min(wanted or most, most)
        """Rows per chunk; None until the first step has found it."""

    def found_before(self, size: int | None) -> None:
        """Reuse the size that a resumed run has found; None: it had not found one."""
        if self.auto and size is not None:
            self.size = min(size, self.most)

    def of(self, looks: Sequence[Look], towers: Towers, world: World) -> tuple[int | None, str | None]:
        """(rows per chunk, or None to leave the batch whole; a message for the user if the size was found just now).

        Raises:
            InputError: nothing fits (`find_chunk_size`), or the batch is cut and a norm is synchronised over ranks.
        """
        told = None
        if self.size is None:
            self.size = find_chunk_size(towers, looks, self.most, world)
            told = f"chunk size: {self.size} of the {self.most} rows of each process fit into memory"
        if self.size >= self.most:
            return None, told
        refuse_synced(towers, world)
        return self.size, told


def find_chunk_size(towers: Towers, looks: Sequence[Look], most: int, world: World) -> int:
    """Rows per chunk: the largest of most, most / 2, most / 4, ... that fits on every rank, the same on all of them.

    Args:
        towers: not wrapped, with no `.grad`; left that way.
        looks: those of the first batch. The longest rows of each are tried.
        most: rows on a rank; a chunk of this size is the whole batch.

    Raises:
        InputError: on every rank, if any of them cannot fit a single row; with gradient checkpointing on a CPU or MPS,
            where the size is estimated from the graph, which does not show what recomputed layers will need.
    """
    if towers.device.type in ("cpu", "mps"):
        if towers.recomputes:
            raise InputError("train.chunk_size 'auto' with train.gradient_checkpointing needs a GPU: give a number")
        fits = by_measure(towers, looks, free_memory() * SHARE)
    else:
        fits = by_trial(towers, looks, _needed_later(towers))
    size = most
    while size and not fits(size, size == most):
        size //= 2
    size = int(world.gather(torch.tensor([size], device=towers.device)).min())
    if not size:
        raise InputError(
            "train.chunk_size 'auto': not even one row at a time fits into free memory: use smaller encoders, pictures "
            "or texts, or give --train.chunk-size a number to try anyway"
        )
    return size


def by_trial(towers: Towers, looks: Sequence[Look], reserved: int) -> Fits:
    """A check that allocates `reserved` bytes, computes what a step would hold at once, and sees if memory runs out."""

    def fits(size: int, whole: bool) -> bool:
        try:
            _compute(towers, looks, None if whole else size, reserved)
            fitted = True
        except torch.OutOfMemoryError:
            fitted = False
        towers.zero_grad(set_to_none=True)
        if towers.device.type != "cpu":
            torch.get_device_module(towers.device).empty_cache()
        return fitted

    return fits


def by_measure(towers: Towers, looks: Sequence[Look], room: float) -> Fits:
    """A check that extrapolates from the memory that the graph of a few rows holds; `room` in bytes."""
    measured = [(len(look), _bytes_a_row(towers, look)) for look in looks if look.batch is not None]

    def fits(size: int, whole: bool) -> bool:
        held = [min(size, rows) * each for rows, each in measured]
        return (sum(held) if whole else max(held, default=0)) <= room

    return fits


def free_memory() -> int:
    """Bytes that this process may still allocate: free memory of the machine or container (cgroup v2) / local ranks."""
    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):  # no container, another system, or "max"
        free = min(free, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return max(0, free) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _compute(towers: Towers, looks: Sequence[Look], size: int | None, reserved: int) -> None:
    """Run forward and backward on all rows together, or on the first chunk of each look."""
    held = torch.empty(reserved, dtype=torch.uint8, device=towers.device)
    if size is None:
        parts = [[request for look in looks for request in look.requests()]]
    else:
        parts = [chunk.requests() for look in looks for chunk in cut(look, size)[:1]]
    with statistics_held(towers), states_kept(towers):
        for requests in parts:
            sums = [z.sum() for z in towers(requests).values() if z.requires_grad]
            if sums:
                torch.stack(sums).sum().backward()
    del held


def _needed_later(towers: Towers) -> int:
    """Bytes that a trial must leave free on an accelerator: the optimiser's state, DDP's buckets, and SPARE."""
    trained = sum(p.numel() * p.element_size() for p in towers.parameters() if p.requires_grad)
    _, total = torch.get_device_module(towers.device).mem_get_info(towers.device)
    return 3 * trained + int(SPARE * total)


def _bytes_a_row(towers: Towers, look: Look) -> float:
    """Bytes per row that the graph of the look's longest rows saves for backward, not counting the weights."""
    weights = {p.untyped_storage().data_ptr() for p in towers.parameters()}
    kept: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return t

    requests = cut(look, FEW)[0].requests()
    with statistics_held(towers), states_kept(towers), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        embedded = towers(requests)
    return sum(kept.values()) / len(next(iter(embedded.values())))
