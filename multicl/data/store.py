"""Decoded rows of one source, one tensor per name, on the GPU if there is one: a step's batch is a single gather.

Each row is written to its final place when it is decoded, so that memory never holds it twice. Every rank keeps all
rows that it has loaded, eventually the whole data set: each epoch assigns rows to ranks anew.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from multicl.data.rows import Rows
from multicl.data.slice import Skipped
from multicl.types import Alike, Batch, Sample

SHARE = 1 / 16
"""Share of a GPU's free memory that a store may take; a larger store stays on the CPU. Before the first step, it is
unknown how much memory views and autograd graphs need, and a batch that fitted without a store should still fit."""
UNKNOWN, ABSENT, BAD = -1, -2, -3
"""Slots of rows that are not loaded yet, whose cell is null, or whose cell cannot be read."""


class Store:
    """Rows of one source whose samples are all alike (`multicl.types.Alike`).

    Args:
        rows: the data set. column: the source's column.
        device: where to keep the tensors, if they fit. pin: copy to it through page-locked memory.
    """

    def __init__(self, modality: Alike, rows: Rows, column: str, device: torch.device, pin: bool) -> None:
        self.modality, self.rows, self.device, self.pin = modality, rows, device, pin
        sets: list[Rows] = getattr(rows, "sets", [rows])
        self.most = sum(len(part) for part in sets if part.has(column))
        """Rows at most that have a cell: those of the sets with the column."""
        self.slots = np.full(len(rows), UNKNOWN)
        """[N] index of each row in the tensors, or UNKNOWN, ABSENT or BAD."""
        self.bad: dict[int, Skipped] = {}
        self.kind: Hashable = None
        self.tensors: dict[str, Tensor] = {}
        """Name -> contiguous [most, ...] tensor, of which the first `used` rows are written; empty before the first."""
        self.orders: dict[str, list[int]] = {}
        """Name -> the order of a batch's dimensions in memory: large images are channels-last."""
        self.used = 0

    @property
    def taken(self) -> int:
        """Bytes of CPU memory that the tensors take."""
        return sum(t.nbytes for t in self.tensors.values() if t.device.type == "cpu")

    def unknown(self, numbers: Sequence[int]) -> list[int]:
        """Those of the rows that are not loaded yet, without repeats."""
        at = np.flatnonzero(self.slots[self.rows.places(numbers)] == UNKNOWN)
        return list(dict.fromkeys(numbers[i] for i in at.tolist()))

    def fill(self, loaded: Mapping[int, Sample | Skipped | None], room: float) -> bool:
        """Store what unknown rows loaded as; False: the samples are not alike, or not all rows would fit.

        Args:
            room: bytes that the store may take, on the GPU or in CPU memory.
        """
        there = {n: found for n, found in loaded.items() if found is not None and not isinstance(found, Skipped)}
        if there and not self._write(list(there), list(there.values()), room):
            return False
        absent = [n for n, found in loaded.items() if found is None]
        bad = {n: found for n, found in loaded.items() if isinstance(found, Skipped)}
        self.slots[self.rows.places(absent)] = ABSENT
        self.slots[self.rows.places(list(bad))] = BAD
        self.bad |= bad
        return True

    def _write(self, numbers: list[int], samples: list[Sample], room: float) -> bool:
        kinds = {self.modality.alike(sample) for sample in samples} | ({self.kind} if self.used else set())
        if len(kinds) > 1 or None in kinds:
            return False
        batch = self.modality.collate(samples)
        if not self.used and not self._open(batch, room):
            return False
        (self.kind,) = kinds
        new = slice(self.used, self.used + len(batch))
        for name, t in batch.tensors.items():
            there = self.tensors[name][new]
            mine = t.permute(self.orders[name])
            assert (mine.shape, mine.dtype) == (there.shape, there.dtype), f"{name!r} of samples that are alike differs"
            there.copy_(self._pinned(mine.contiguous()), non_blocking=True)
        self.slots[self.rows.places(numbers)] = np.arange(new.start, new.stop)
        self.used = new.stop
        return True

    def _open(self, batch: Batch, room: float) -> bool:
        """Allocate tensors for all rows, shaped like this batch's; False if they do not fit or have lengths."""
        size = self.most * sum(t.nbytes for t in batch.tensors.values()) / len(batch)
        if size > room or batch.lengths is not None:  # chunks are sorted by length on the CPU
            return False
        if self.device.type != "cuda" or size > SHARE * torch.cuda.mem_get_info(self.device)[0]:
            self.device, self.pin = torch.device("cpu"), False
        for name, t in batch.tensors.items():
            self.orders[name] = [0, *sorted(range(1, t.ndim), key=t.stride, reverse=True)]
            shape = t.permute(self.orders[name]).shape[1:]
            self.tensors[name] = torch.empty(self.most, *shape, dtype=t.dtype, device=self.device)
        return True

    def batch(self, numbers: Sequence[int], skipped: list[Skipped]) -> Batch | None:
        """The batch of the rows that have a cell, as `collate` gives it; unreadable cells are added to `skipped`.

        Its tensors are on the store's device, `row` on the CPU. None: no row has a cell.
        """
        slots = self.slots[self.rows.places(numbers)]
        skipped += [self.bad[numbers[i]] for i in np.flatnonzero(slots == BAD).tolist()]
        there = slots >= 0
        if not there.any():
            return None
        at = self._pinned(torch.from_numpy(slots[there])).to(self.device, non_blocking=True)
        gathered = {name: t.index_select(0, at) for name, t in self.tensors.items()}
        tensors = {name: t.permute(np.argsort(self.orders[name]).tolist()) for name, t in gathered.items()}
        return Batch(tensors, torch.from_numpy(np.asarray(numbers, dtype=np.int64)[there]))

    def _pinned(self, t: Tensor) -> Tensor:
        return t.pin_memory() if self.pin else t
