"""Rows that the encoders see at once: a number, or the largest that fits the memory, found once, before the first step.

On an accelerator by trying: the whole batch at once, then halves. On a CPU, where the system ends a process that takes
too much, from what the graph of a few rows holds and what is free.
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
"""Of the memory that is free beside a CPU, what graphs may hold: backward, the loss and the loader need some, too."""
SPARE = 0.1
"""Of an accelerator's memory, what a trial leaves to the loss, and to rows longer than those of the first batch."""
FEW = 16
"""Rows whose graph is measured."""

Fits = Callable[[int, bool], bool]
"""(rows a chunk, whether that is the whole batch) -> whether the graphs that a step holds at once fit the memory."""


class ChunkSize:
    """Rows that the encoders see at once, the same on every rank.

    Args:
        wanted: what `train.chunk_size` says. most: rows that a rank can have of a view.
    """

    def __init__(self, wanted: int | Literal["auto"] | None, most: int) -> None:
        self.most = most
        self.auto = wanted == "auto"
        self.size = None if wanted == "auto" else min(wanted or most, most)
        """None: not known before the first step."""

    def found_before(self, size: int | None) -> None:
        """What a run that is resumed has found; None: nothing yet."""
        if self.auto and size is not None:
            self.size = min(size, self.most)

    def of(self, looks: Sequence[Look], towers: Towers, world: World) -> tuple[int | None, str | None]:
        """Rows a chunk of these looks, None where the batch is not cut; and what to tell, where it was found just now.

        Raises:
            InputError: nothing fits (`find_chunk_size`); a norm over all ranks, where the batch is cut.
        """
        told = None
        if self.size is None:
            self.size = find_chunk_size(towers, looks, self.most, world)
            told = f"chunk size: {self.size} of the {self.most} rows of a process fit its memory"
        if self.size >= self.most:
            return None, told
        refuse_synced(towers, world)
        return self.size, told


def find_chunk_size(towers: Towers, looks: Sequence[Look], most: int, world: World) -> int:
    """Rows a chunk: the largest of most, most / 2, most / 4, ... that fits on every rank, the same on all of them.

    Args:
        towers: not wrapped, and without gradients; they are left so.
        looks: of the first batch. Of each, the longest rows are tried.
        most: rows of a rank; so large a chunk means that nothing is cut.

    Raises:
        InputError: on every rank, where one of them has no room for single rows; layers that are computed again, of
            which a graph does not tell beforehand, where memory cannot be tried.
    """
    if towers.device.type in ("cpu", "mps"):
        if towers.recomputes:
            raise InputError("train.chunk_size 'auto' beside train.gradient_checkpointing needs a GPU: give a number")
        fits = by_measure(towers, looks, free_memory() * SHARE)
    else:
        fits = by_trial(towers, looks, _needed_later(towers))
    size = most
    while size and not fits(size, size == most):
        size //= 2
    size = int(world.gather(torch.tensor([size], device=towers.device)).min())
    if not size:
        raise InputError(
            "train.chunk_size 'auto': not even one row at a time fits the memory that is free; take smaller encoders, "
            "pictures or texts, or give --train.chunk-size a number to try it all the same"
        )
    return size


def by_trial(towers: Towers, looks: Sequence[Look], reserved: int) -> Fits:
    """Compute, with this many bytes out of reach, what a step would hold at once, and see whether memory runs out."""

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
    """Multiply what a few rows hold until their backward; `room` in bytes."""
    measured = [(len(look), _bytes_a_row(towers, look)) for look in looks if look.batch is not None]

    def fits(size: int, whole: bool) -> bool:
        held = [min(size, rows) * each for rows, each in measured]
        return (sum(held) if whole else max(held, default=0)) <= room

    return fits


def free_memory() -> int:
    """Bytes that a process may still take: of the machine or its container (cgroup v2), shared among local ranks."""
    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):  # no container, another system, or "max"
        free = min(free, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return max(0, free) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _compute(towers: Towers, looks: Sequence[Look], size: int | None, reserved: int) -> None:
    """Forward and backward of all rows together, or of the first chunk of each look."""
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
    """Bytes of an accelerator that a trial must leave: the optimiser's state, DDP's buckets, and SPARE."""
    trained = sum(p.numel() * p.element_size() for p in towers.parameters() if p.requires_grad)
    _, total = torch.get_device_module(towers.device).mem_get_info(towers.device)
    return 3 * trained + int(SPARE * total)


def _bytes_a_row(towers: Towers, look: Look) -> float:
    """What the graph of the look's longest rows keeps for its backward, beside the weights."""
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
