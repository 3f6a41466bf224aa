"""Several data sets as one: their columns may differ. Also the order in which a run visits rows.

A row's stable number is (number of its set << 48) + its position in the set. The order is a pure function of (seed,
epoch). Each set is shuffled and read from end to end, pass after pass, at the rate that its weight sets. Rows from the
end of a pass come late in the next, so that no batch holds a row twice if its set has two batches' rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any, Literal

import numpy as np

from multicl.data.grouped import grouped_order
from multicl.data.ids import SET_BITS
from multicl.data.rows import Row, Rows
from multicl.seeds import epoch_order
from multicl.settings import Train
from multicl.types import InputError

Batches = Literal["mixed", "one"]
Numbers = np.ndarray[Any, np.dtype[np.int64]]


class Mixture(Rows):
    """The rows of several sets, concatenated; a column that a set lacks is null in its rows.

    Args:
        sets: one or more, each with columns and base of its own.
        weights: for each set, how many rows a run draws from it relative to the others; None: its number of rows, so
            that sets with None are passed through equally often.
        batches: "mixed": each batch has rows of all sets, by their shares; "one": each batch has rows of one set.

    Raises:
        InputError: a set is a stream; a weight is not above 0 and finite.
    """

    def __init__(
        self, sets: Sequence[Rows], weights: Sequence[float | None] | None = None, batches: Batches = "mixed"
    ) -> None:
        for rows in sets:
            if rows.streaming:
                raise InputError(f"{rows.label} is a stream, and streams cannot be mixed: read it without streaming")
        self.sets, self.batches = list(sets), batches
        self.given = list(weights) if weights is not None else [None] * len(self.sets)
        self.weights = [float(len(r) if w is None else w) for r, w in zip(self.sets, self.given, strict=True)]
        for rows, weight in zip(self.sets, self.weights, strict=True):
            if not 0 < weight < float("inf"):
                raise InputError(f"the weight of {rows.label} must be above 0, got {weight}")
        self.starts = np.cumsum([0, *map(len, self.sets)])
        super().__init__([], label=" + ".join(rows.label for rows in self.sets))

    def _find_names(self) -> list[str] | None:
        if any(rows.names is None for rows in self.sets):
            return None
        return list(dict.fromkeys(name for rows in self.sets for name in rows.names or []))

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def sizes(self) -> list[int]:
        """The number of rows of each set."""
        return [len(rows) for rows in self.sets]

    def numbers(self) -> Numbers:
        """[N] the stable numbers of all rows, in order."""
        return np.concatenate([(s << SET_BITS) + np.arange(len(rows)) for s, rows in enumerate(self.sets)])

    def places(self, numbers: Sequence[int] | Numbers) -> Numbers:
        """[n] stable numbers -> [n] their positions in the concatenation."""
        at = np.asarray(numbers, dtype=np.int64)
        places: Numbers = self.starts[at >> SET_BITS] + (at & ((1 << SET_BITS) - 1))
        return places

    def base_of(self, number: int) -> Path | None:
        """The folder against which a row's relative paths are resolved."""
        return self.sets[number >> SET_BITS].base

    def resolve(self, name: str, wanted_by: str = "") -> str:
        """The name itself, if any set has a column for it; each set maps it to its own column.

        Raises:
            InputError: no set has one.
        """
        if not any(rows.has(name) for rows in self.sets):
            for rows in self.sets:
                rows.resolve(name, wanted_by)
        return name

    def row(self, index: int) -> Row:
        """The row at a position in the concatenation, with all its columns."""
        return self._rows([int(self.numbers()[index])], None)[0]

    def fetch(self, numbers: Sequence[int], columns: Sequence[str]) -> list[Row]:
        """The rows of these stable numbers; keys are the requested names, whatever a set's columns are called."""
        return self._rows(numbers, columns)

    def _rows(self, numbers: Sequence[int], columns: Sequence[str] | None) -> list[Row]:
        found: dict[int, Row] = {}
        for s in sorted({n >> SET_BITS for n in numbers}):
            rows = self.sets[s]
            mine = [n for n in dict.fromkeys(numbers) if n >> SET_BITS == s]
            names = columns if columns is not None else self.names or []
            own = {name: rows.resolve(name) for name in names if rows.has(name)}
            inner = [n & ((1 << SET_BITS) - 1) for n in mine]
            got: Iterable[Row] = rows.fetch(inner, list(own.values())) if own else repeat({}, len(inner))
            for n, row in zip(mine, got, strict=True):
                found[n] = {name: row.get(own[name]) if name in own else None for name in names}
        return [found[n] for n in numbers]

    def take(self, numbers: Sequence[int]) -> Mixture:
        """The rows at these positions; sets keep their weights, and sets from which no row is taken are dropped.

        Raises:
            InputError: the positions are empty or not in ascending order.
        """
        places = np.asarray(numbers, dtype=np.int64)
        if not len(places) or (np.diff(places) < 0).any():
            raise InputError(f"{self.label}: rows can only be taken in ascending order, and at least one")
        of = np.searchsorted(self.starts, places, side="right") - 1
        kept = [s for s in range(len(self.sets)) if (of == s).any()]
        sets = [self.sets[s].take((places[of == s] - self.starts[s]).tolist()) for s in kept]
        return Mixture(sets, [self.given[s] for s in kept], self.batches)

    def with_column(self, name: str, values: Sequence[Any]) -> Mixture:
        """As `Rows.with_column`; each set gets its part of the values."""
        if len(values) != len(self):
            raise InputError(f"{self.label} has {len(self)} rows, but column {name!r} would have {len(values)} values")
        parts = [values[start:end] for start, end in pairwise(self.starts.tolist())]
        sets = [rows.with_column(name, part) for rows, part in zip(self.sets, parts, strict=True)]
        return Mixture(sets, self.given, self.batches)

    def cells(self, name: str) -> Iterator[Any]:
        """Iterate over every cell of a column, null where a set lacks it."""
        self.resolve(name)
        for rows in self.sets:
            yield from rows.cells(name) if rows.has(name) else repeat(None, len(rows))

    def found(self, name: str, files: bool) -> Iterator[Any]:
        """As `Rows.found`; each set resolves its paths against its own base."""
        self.resolve(name)
        for rows in self.sets:
            yield from rows.found(name, files) if rows.has(name) else repeat(None, len(rows))


@dataclass(frozen=True)
class Order:
    """The order of the rows in each epoch, for a single set or a Mixture.

    Raises:
        InputError: the batch is larger than the data; a batch needs more rows of a set than it has; or a set's weight
            gives it no row in an epoch.
    """

    rows: Rows
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        size, n = self.batch_size, len(self.rows)
        if size > n:
            raise InputError(
                f"the batch ({size}) is larger than the data ({n} rows of {self.rows.label}): "
                f"give --train.batch-size {n} or less"
            )
        if not isinstance(self.rows, Mixture):
            return
        for rows, share in zip(self.rows.sets, self._shares(), strict=True):
            wanted = size if self.rows.batches == "one" else -(-share // self.epoch_steps)
            if wanted > len(rows):
                raise InputError(
                    f"{rows.label} has {len(rows)} rows, and a batch would take {wanted} of them: lower its weight or "
                    "--train.batch-size"
                )
            if share == 0:
                raise InputError(f"the weight of {rows.label} is so small that an epoch takes no row of it: raise it")

    @property
    def epoch_steps(self) -> int:
        """Full batches per epoch; leftover rows take part in the next epoch's shuffle."""
        return len(self.rows) // self.batch_size

    def epoch(self, epoch: int) -> Numbers:
        """[epoch_steps * batch_size] stable numbers of an epoch's rows, batch after batch."""
        if not isinstance(self.rows, Mixture):
            groups, most = self.rows.groups, self.epoch_steps * self.batch_size
            if groups is not None:
                return grouped_order(self.seed, epoch, *groups)[:most]
            return epoch_order(self.seed, epoch, len(self.rows))[:most]
        dice = np.random.default_rng([self.seed, epoch, len(self.rows.sets)])
        shares = self._shares()
        parts = [self._visits(s, epoch * share, share) for s, share in enumerate(shares)]
        if self.rows.batches == "one":
            batches = np.concatenate(parts).reshape(-1, self.batch_size)
            return batches[dice.permutation(len(batches))].reshape(-1)
        keys = np.concatenate([(np.arange(n) + dice.random(n)) / n for n in shares])  # spread evenly over the epoch
        return np.concatenate(parts)[np.argsort(keys, kind="stable")]

    def _shares(self) -> list[int]:
        """Rows of each set per epoch (whole batches if each batch is of one set), rounded by largest remainders."""
        assert isinstance(self.rows, Mixture)
        unit = self.batch_size if self.rows.batches == "one" else 1
        total = self.epoch_steps * self.batch_size // unit
        exact = np.array(self.rows.weights) / sum(self.rows.weights) * total
        whole = np.floor(exact).astype(int)
        order = np.argsort(whole - exact, kind="stable")
        whole[order[: total - whole.sum()]] += 1
        return [int(n) * unit for n in whole]

    def _visits(self, s: int, first: int, count: int) -> Numbers:
        """Visits first .. first + count - 1 of a set, counted over its consecutive passes."""
        assert isinstance(self.rows, Mixture)
        size = len(self.rows.sets[s])
        gap = min(self._most(count), (size + 1) // 2)  # then `_later` leaves the end of each pass as it is
        before = max(0, first // size - 1)
        own = [
            np.random.default_rng([self.seed, s, k, 1]).permutation(size)
            for k in range(before, (first + count - 1) // size + 1)
        ]
        every = np.concatenate([own[0], *(_later(*two, gap) for two in pairwise(own))])
        return (s << SET_BITS) + every[first - before * size :][:count]

    def _most(self, share: int) -> int:
        """An upper bound of the rows of a set in one batch, if an epoch takes `share` of them."""
        assert isinstance(self.rows, Mixture)
        if self.rows.batches == "one":
            return self.batch_size
        return -(-share * (self.batch_size + len(self.rows.sets)) // (self.epoch_steps * self.batch_size)) + 1


def _later(before: Numbers, after: Numbers, gap: int) -> Numbers:
    """The pass `after`, its beginning reordered so that a row comes at least `gap` visits after its previous one."""
    first = {row: place for place, row in enumerate(before[len(before) - gap + 1 :].tolist(), 1)}
    waiting, head = deque(after[:gap].tolist()), list[int]()
    for place in range(gap):
        at = next(i for i, row in enumerate(waiting) if first.get(row, 0) <= place)
        head.append(waiting[at])
        del waiting[at]
    return np.concatenate([np.array(head, np.int64), after[gap:]])


def run_steps(rows: Rows, train: Train) -> tuple[int, int]:
    """(steps of the run, steps per epoch); a stream's run counts as one epoch.

    Raises:
        InputError: a stream without `train.steps`; a batch that the rows cannot fill (`Order`).
    """
    if rows.streaming:
        if train.steps is None:
            raise InputError("a stream has no length: give train.steps instead of epochs")
        return train.steps, train.steps
    epoch = Order(rows, train.batch_size, train.seed).epoch_steps
    return (max(1, round(train.epochs * epoch)) if train.steps is None else train.steps), epoch
