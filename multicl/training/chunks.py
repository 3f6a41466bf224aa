"""Splits the rows of a look into chunks that fit in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from multicl.towers import Embeddings, Request
from multicl.training.looks import Look
from multicl.types import Batch

if TYPE_CHECKING:
    import torch
    from torch import Tensor


KEPT = 1 << 26
"""Bytes of views that a step keeps from the first pass for the replay; views beyond that are computed again."""


@dataclass
class Chunk:
    """Some rows of a look, with random draws of their own."""

    look: Look
    number: int
    rows: slice | Tensor
    """Positions in the look's batch."""
    kept: Batch | None = None
    """The view of these rows, if it was kept."""
    graph: Embeddings | None = None
    """Embeddings with their graph, for the one chunk that is not computed again."""
    states: list[Tensor] = field(default_factory=list)
    """State of the towers (see `states`) before this chunk was embedded, if it is to be computed again."""
    _there: Tensor | None = None

    def rows_on(self, device: torch.device) -> slice | Tensor:
        """`rows` as an index for tensors on `device`, copied there only once: each copy would synchronise with the
        GPU."""
        if isinstance(self.rows, slice):
            return self.rows
        if self._there is None:
            self._there = self.rows.to(device, non_blocking=device.type != "cpu")
        return self._there

    def batch(self) -> Batch:
        """The view of these rows, without padding that only other rows need."""
        if self.kept is not None:
            return self.kept
        assert self.look.batch is not None
        return self.look.view(self.look.batch[self.rows].trimmed())

    def keep(self, batch: Batch, room: int) -> int:
        """Keep the view if it fits into `room` bytes; returns the bytes that it takes, 0 if it was not kept."""
        size = sum(t.nbytes for t in batch.tensors.values())
        if size > room:
            return 0
        self.kept = batch
        return size

    @property
    def whole(self) -> bool:
        """Whether the chunk holds all rows of the look, in order."""
        return isinstance(self.rows, slice) and self.rows.stop - self.rows.start == len(self.look)

    @property
    def alone(self) -> bool:
        """Whether the chunk is a single row; batch norm in heads then uses its running statistics (`batch_norm`)."""
        rows = self.rows
        return (rows.stop - rows.start if isinstance(rows, slice) else len(rows)) == 1

    @property
    def readers(self) -> list[Request]:
        """The look's readers, with the chunk's seeds."""
        return [reader._replace(seed=(*reader.seed, self.number)) for reader in self.look.readers]

    def requests(self) -> list[Request]:
        """The readers with the chunk's rows, ready to embed."""
        batch = self.batch()
        return [reader._replace(batch=batch) for reader in self.readers]


def cut(look: Look, size: int) -> list[Chunk]:
    """Split a look into chunks of at most `size` rows, as equal as possible: BatchNorm cannot train on a leftover row.

    If the batch has lengths, rows are sorted longest first, so that chunks have almost no padding and the first chunk
    needs the most memory.
    """
    if look.batch is None:
        return []
    count = -(-len(look) // size)
    lengths = look.batch.lengths
    if lengths is not None:
        order = lengths.cpu().argsort(descending=True, stable=True)
        return [Chunk(look, number, rows) for number, rows in enumerate(order.tensor_split(count))]
    edges = [number * len(look) // count for number in range(count + 1)]
    return [Chunk(look, number, slice(edges[number], edges[number + 1])) for number in range(count)]
