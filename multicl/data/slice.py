"""A rank's rows of one step, as loaders yield them: batches, the ids of every pair, and the cells that were skipped."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from multicl.graph import Term
from multicl.pairs import Pair
from multicl.types import Batch


def negatives_of(pair: Pair) -> str:
    """The key in `Slice.ids` of the ids of a pair's explicit negatives."""
    return f"{pair.name}/negatives"


@dataclass(frozen=True)
class Skipped:
    """A cell that could not be used."""

    row: int
    column: str
    reason: str

    def __str__(self) -> str:
        return f"row {self.row}, column {self.column!r}: {self.reason}"


@dataclass(frozen=True)
class Slice:
    """This rank's rows of one step."""

    batches: dict[str, Batch | None]
    """Source -> the batch of rows that have it; None if none does."""
    row: Tensor
    """[n] int64 stable numbers of all rows of the slice, mined rows included."""
    ids: dict[str, Tensor]
    """Pair -> [n] int64 ids of those rows, or of their explicit negatives (`negatives_of`); target -> classes or -1."""
    skipped: tuple[Skipped, ...] = ()
    epoch: int = 0
    mined: dict[str, Batch | None] = field(default_factory=dict)
    """Pair -> the batch of mined rows of its node b; None if there are none."""
    scores: dict[str, Tensor] = field(default_factory=dict)
    """Pair that has a target -> [n] float32 scores of the slice's rows without mined ones; NaN where a row has none."""

    def ids_of(self, term: Term, row: Tensor, negatives: bool = False) -> Tensor:
        """[B] ids of the rows numbered `row` [B], or of their explicit negatives, on the device of `row`."""
        name = negatives_of(term) if negatives and isinstance(term, Pair) else term.name
        return self.ids[name][self._places(row)].to(row.device)

    def scores_of(self, pair: Pair, row: Tensor) -> Tensor:
        """[B] float32 scores of the rows numbered `row` [B], on its device, for a pair that has a target."""
        scores = self.scores[pair.name]
        return scores[self._places(row, len(scores))].to(row.device)

    def _places(self, row: Tensor, among: int | None = None) -> Tensor | slice:
        """Positions of the rows numbered `row`, among the first `among` if given: later mined rows may repeat one."""
        mine, row = self.row[:among], row.cpu()
        if torch.equal(mine, row):  # the usual case
            return slice(None)
        order = torch.argsort(mine)
        at = order[torch.searchsorted(mine[order], row)]
        assert torch.equal(mine[at], row), "rows of another slice"
        return at

    def pin_memory(self) -> Slice:
        """Move the tensors to page-locked memory in place, for fast copies to a GPU; returns the slice."""
        for batch in self.batches.values():
            if batch is not None:
                batch.pin_memory()
        return self
