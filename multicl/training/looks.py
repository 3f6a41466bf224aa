"""Which views a step embeds: one look a (source, kind, draw), however many nodes read it.

A view is made when it is computed, from its rows' own seeds, and the same again when it is computed again: kept, all
views of a large batch would fill the memory that chunks save.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from multicl.data.slice import Slice
from multicl.seeds import row_seeds
from multicl.towers import Request, Towers
from multicl.types import Batch, Kind


@dataclass(frozen=True)
class Look:
    """One view of one source's rows on this rank, and who reads it."""

    batch: Batch | None
    """The rows as they were loaded, on any device; None: this rank has none."""
    view: Callable[[Batch], Batch]
    """Any of the rows -> their view, on the towers' device; a row's is the same whatever rows it comes with."""
    readers: tuple[Request, ...]
    """What is embedded of it, without rows."""

    def __len__(self) -> int:
        return 0 if self.batch is None else len(self.batch)

    def size(self) -> int:
        """Bytes of the rows as they were loaded."""
        return 0 if self.batch is None else sum(t.nbytes for t in self.batch.tensors.values())

    def requests(self) -> list[Request]:
        """All rows at once."""
        batch = None if self.batch is None else self.view(self.batch)
        return [reader._replace(batch=batch) for reader in self.readers]


def looks_of(
    part: Slice, towers: Towers, sources: Mapping[str, str], seed: int, epoch: int, step: int, rank: int, first: int = 0
) -> list[Look]:
    """Every view that the graph asks of a slice; nodes of one source read the very same.

    Args:
        sources: node -> key of its source, as `data.sources_of` has it.
        seed: the run's. With the epoch it decides what views draw, with step and rank what dropout draws.
        first: number of the first view; towers that share their rows drop out different units by different numbers.
    """
    readers: dict[tuple[str, Kind, int, str], list[Request]] = {}
    for number, (view, spaces) in enumerate(towers.requests.items(), first):
        request = Request(view, None, spaces, (seed, step, rank, number))
        readers.setdefault((sources[view.node], view.kind, view.draw, view.mined), []).append(request)

    def viewer(source: str, kind: Kind, draw: int) -> Callable[[Batch], Batch]:
        modality = towers.modalities[source]

        def view(batch: Batch) -> Batch:
            seeds = row_seeds(batch.row, seed, epoch, source, kind, draw)  # where the rows are: no device is waited for
            return modality.view(batch.to(towers.device, non_blocking=True), seeds, kind)

        return view

    return [
        Look(part.mined.get(mined) if mined else part.batches[source], viewer(source, kind, draw), tuple(asked))
        for (source, kind, draw, mined), asked in readers.items()
    ]
