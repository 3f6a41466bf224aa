"""Which views a step embeds: one look per (source, kind, draw), however many nodes read it.

A view is made when it is needed, from its rows' seeds, so making it again gives the same view. Keeping all views of a
large batch would use up the memory that chunking saves.
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
    """One view of one source's rows on this rank, and the requests that read it."""

    batch: Batch | None
    """The rows as loaded, on any device; None if this rank has none."""
    view: Callable[[Batch], Batch]
    """Any of the rows -> their view, on the towers' device. A row's view does not depend on the rows around it."""
    readers: tuple[Request, ...]
    """What to embed of this view; their batches are not filled in."""

    def __len__(self) -> int:
        return 0 if self.batch is None else len(self.batch)

    def size(self) -> int:
        """Bytes of the rows as loaded."""
        return 0 if self.batch is None else sum(t.nbytes for t in self.batch.tensors.values())

    def requests(self) -> list[Request]:
        """The readers with the view of all rows, ready to embed."""
        batch = None if self.batch is None else self.view(self.batch)
        return [reader._replace(batch=batch) for reader in self.readers]


def looks_of(
    part: Slice, towers: Towers, sources: Mapping[str, str], seed: int, epoch: int, step: int, rank: int, first: int = 0
) -> list[Look]:
    """Every view of a slice that the graph needs; nodes with the same source share a look.

    Args:
        sources: node -> key of its source, as in `data.sources_of`.
        seed: the run's. With the epoch it determines the views' draws; with step and rank, those of dropout.
        first: number of the first view; the numbers give towers that see the same rows different dropout masks.
    """
    readers: dict[tuple[str, Kind, int, str], list[Request]] = {}
    for number, (view, spaces) in enumerate(towers.requests.items(), first):
        request = Request(view, None, spaces, (seed, step, rank, number))
        readers.setdefault((sources[view.node], view.kind, view.draw, view.mined), []).append(request)

    def viewer(source: str, kind: Kind, draw: int) -> Callable[[Batch], Batch]:
        modality = towers.modalities[source]

        def view(batch: Batch) -> Batch:
            seeds = row_seeds(batch.row, seed, epoch, source, kind, draw)  # on the rows' device: no synchronisation
            return modality.view(batch.to(towers.device, non_blocking=True), seeds, kind)

        return view

    return [
        Look(part.mined.get(mined) if mined else part.batches[source], viewer(source, kind, draw), tuple(asked))
        for (source, kind, draw, mined), asked in readers.items()
    ]
