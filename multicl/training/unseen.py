"""Detects pairs and targets that never get a row, so that a run that learns nothing does not end as if it had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from multicl.data.slice import Slice
from multicl.distributed import World
from multicl.graph import Term
from multicl.pairs import Pair
from multicl.types import InputError

STEPS = 100
"""The check is made after this many steps, or after an epoch if that is shorter."""


class Unseen:
    """Keeps track of the terms that have had no row yet.

    Args:
        sources: node -> key of its source in a slice. steps: number of steps to watch; the same on every rank.
    """

    def __init__(self, terms: Sequence[Term], sources: Mapping[str, str], steps: int, world: World) -> None:
        self.terms, self.sources, self.steps, self.world = list(terms), sources, steps, world
        self.left, self.done = list(terms), 0

    def look(self, part: Slice) -> str | None:
        """Take in one step's rows; after the last step watched, a warning about terms without rows, on every rank.

        Raises:
            InputError: no term has had a row on any rank.
        """
        if self.done >= self.steps:
            return None
        self.done += 1
        self.left = [term for term in self.left if not self._is_in(term, part)]
        if self.done < self.steps:
            return None
        seen = self.world.agree(*(term not in self.left for term in self.terms))
        missing = [_needs(term) for term, there in zip(self.terms, seen, strict=True) if not there]
        if not missing:
            return None
        what = f"in {self.done} steps no usable row had {', and none had '.join(missing)}"
        if not any(seen):
            raise InputError(
                f"nothing can be learnt: {what}. Check the names of the columns, and the cells that were left out"
            )
        return f"warning: {what}"

    def _is_in(self, term: Term, part: Slice) -> bool:
        """Whether a row of the slice has what the term needs."""
        nodes = (term.a, term.b) if isinstance(term, Pair) else (term.node,)
        first, *others = (part.batches[self.sources[node]] for node in nodes)
        if first is None or any(batch is None for batch in others):
            return False
        rows = first.row
        for batch in others:
            rows = rows[torch.isin(rows, batch.row)] if batch is not None else rows
        if isinstance(term, Pair):
            return len(rows) > 0
        return bool((part.ids_of(term, rows) >= 0).any())


def _needs(term: Term) -> str:
    if not isinstance(term, Pair):
        return f"both {term.node!r} and a label of {term.column!r}"
    return f"{term.a!r}" if term.symmetric else f"both {term.a!r} and {term.b!r}"
