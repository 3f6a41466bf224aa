"""A look's rows in pieces that fit the memory."""

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
"""Bytes of views that a step keeps from one pass to the next; those beyond are made again."""


@dataclass
class Chunk:
    """Some rows of a look; their draws are the chunk's own."""

    look: Look
    number: int
    rows: slice | Tensor
    """Their positions in the look's batch."""
    kept: Batch | None = None
    """Their view, once it was made and kept."""
    graph: Embeddings | None = None
    """Their embeddings with the graph, of the one chunk that is not computed again."""
    states: list[Tensor] = field(default_factory=list)
    """The towers' (see `states`), from which it was embedded, where it is to be computed again."""
    _there: Tensor | None = None

    def rows_on(self, device: torch.device) -> slice | Tensor:
        """`rows` for tensors of a device, sent there once: a GPU would be waited for at every use."""
        if isinstance(self.rows, slice):
            return self.rows
        if self._there is None:
            self._there = self.rows.to(device, non_blocking=device.type != "cpu")
        return self._there

    def batch(self) -> Batch:
        """The view of these rows, without padding that only others need."""
        if self.kept is not None:
            return self.kept
        assert self.look.batch is not None
        return self.look.view(self.look.batch[self.rows].trimmed())

    def keep(self, batch: Batch, room: int) -> int:
        """Keep the view if it fits into so many bytes; the bytes that it takes."""
        size = sum(t.nbytes for t in batch.tensors.values())
        if size > room:
            return 0
        self.kept = batch
        return size

    @property
    def whole(self) -> bool:
        """It is all of the look's rows, in their order."""
        return isinstance(self.rows, slice) and self.rows.stop - self.rows.start == len(self.look)

    @property
    def alone(self) -> bool:
        """It is a single row, for which heads' batch norm takes the running statistics (`batch_norm`)."""
        rows = self.rows
        return (rows.stop - rows.start if isinstance(rows, slice) else len(rows)) == 1

    @property
    def readers(self) -> list[Request]:
        """The look's, with the chunk's seeds."""
        return [reader._replace(seed=(*reader.seed, self.number)) for reader in self.look.readers]

    def requests(self) -> list[Request]:
        """The chunk's rows to embed."""
        batch = self.batch()
        return [reader._replace(batch=batch) for reader in self.readers]


def cut(look: Look, size: int) -> list[Chunk]:
    """Chunks of at most `size` rows, as equal as can be: BatchNorm wants no chunk of a single row left over.

    Rows that have lengths are sorted, longest first, so that chunks hold next to no padding and the first of them needs
    the most memory.
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
