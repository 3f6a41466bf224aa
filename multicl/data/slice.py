"""A rank's rows of one step, as loaders hand them on: batches, the ids of every pair, and what could not be read."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from multicl.graph import Term
from multicl.pairs import Pair
from multicl.types import Batch


def negatives_of(pair: Pair) -> str:
    """The name under which a slice has the ids of a pair's explicit negatives."""
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
    """Source -> its present rows; None where no row has it."""
    row: Tensor
    """[n] int64 of all rows of the slice, mined ones too."""
    ids: dict[str, Tensor]
    """Pair -> [n] int64 ids of those rows, or of their explicit negatives (`negatives_of`); target -> classes or -1."""
    skipped: tuple[Skipped, ...] = ()
    epoch: int = 0
    mined: dict[str, Batch | None] = field(default_factory=dict)
    """Pair -> the mined rows of its node b; None where there are none."""
    scores: dict[str, Tensor] = field(default_factory=dict)
    """Pair that has a target -> [n] float32 of all rows of the slice but mined ones; NaN where a row has none."""

    def ids_of(self, term: Term, row: Tensor, negatives: bool = False) -> Tensor:
        """[B] ids of some of the rows, or of the explicit negatives they bring, in their order, on their device."""
        name = negatives_of(term) if negatives and isinstance(term, Pair) else term.name
        return self.ids[name][self._places(row)].to(row.device)

    def scores_of(self, pair: Pair, row: Tensor) -> Tensor:
        """[B] float32 of some of the rows, in their order, on their device; of a pair that has a target."""
        scores = self.scores[pair.name]
        return scores[self._places(row, len(scores))].to(row.device)

    def _places(self, row: Tensor, among: int | None = None) -> Tensor | slice:
        """Positions of some of the rows, among the first `among` where given: mined rows after them may repeat one."""
        mine, row = self.row[:among], row.cpu()
        if torch.equal(mine, row):  # as it mostly is
            return slice(None)
        order = torch.argsort(mine)
        at = order[torch.searchsorted(mine[order], row)]
        assert torch.equal(mine[at], row), "rows of another slice"
        return at

    def pin_memory(self) -> Slice:
        """Page-locked tensors, for fast copies to a GPU."""
        for batch in self.batches.values():
            if batch is not None:
                batch.pin_memory()
        return self
