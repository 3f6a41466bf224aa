"""Rows held out from training: a random share, or a group such as one speaker's rows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from multicl.data.cells import file_of, resolve_path
from multicl.data.equal_files import Files
from multicl.data.ids import Ids, first_of_content, label_key
from multicl.data.loading import Data
from multicl.data.mixture import Mixture
from multicl.data.rows import Rows
from multicl.types import InputError

LOOKED_AT = 1000
"""Cells of `together`, spread over the table, that are tested for being paths of files; if none is, all are texts."""


@dataclass(frozen=True, kw_only=True)
class HoldOut(Data):
    """Holds out a random share of the training split; `open("held-out")` gives it."""

    hold_out: float = 0.1
    """Share of the rows to hold out, in (0, 1)."""
    hold_out_seed: int = 0
    """Seed of the choice of these rows."""
    together: str | None = None
    """A column whose equal cells (texts, numbers, files of the same bytes; lists that share an item) stay on one side,
    so that captions of one picture are not both trained on and held out. Null, blank and -1 equal no other cell."""
    test: str = "held-out"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.hold_out < 1:
            raise InputError(f"data.hold_out must be a share in (0, 1), got {self.hold_out}")
        if self.streaming:
            raise InputError("no rows of a stream can be kept back: name another --data.test, or leave streaming out")

    def open(self, split: str | None = None) -> Rows:
        """As `Data.open`; the training split lacks the rows of the split "held-out".

        Raises:
            InputError: there are fewer than two rows, or fewer than two different cells of `together`; `split` is
                another slice of the training split, which may hold held-out rows.
        """
        if split not in (None, "held-out", self.split):
            _refuse_others(split, self.split, "rows are held out")
            return super().open(split)
        chosen = self.held if split == "held-out" else ~self.held
        return self._every.take(chosen.nonzero()[0].tolist())

    @cached_property
    def _every(self) -> Rows:
        return super().open()

    @cached_property
    def held(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """[N] bool, the held-out rows: whole groups of `together`, taken in random order if they fit in the share.

        Raises:
            InputError: see `open`.
        """
        rows = self._every
        things = np.arange(len(rows)) if self.together is None else _things(rows, self.together)
        sizes = np.bincount(things)
        if len(rows) < 2:
            raise InputError(f"{rows.label} has {len(rows)} rows (columns {rows.names}): none can be kept back")
        if len(sizes) < 2:
            raise InputError(
                f"{rows.label} has equal cells in all rows of column {self.together!r}: none can be kept back"
            )
        room = min(max(1, round(self.hold_out * len(rows))), len(rows) - 1)
        order = np.random.default_rng(self.hold_out_seed).permutation(len(sizes))
        chosen = np.zeros(len(sizes), dtype=bool)
        for thing, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
            if size <= room:
                chosen[thing] = True
                room -= size
        if not chosen.any():
            chosen[sizes.argmin()] = True
        return chosen[things]


@dataclass(frozen=True, kw_only=True)
class LeaveOut(Data):
    """Rows in groups (speakers, patients, cameras), one of which may be left out; `open("left-out")` gives its rows.

    With `batches` "one", each batch has rows of one group, so that traits of a group cannot tell a row from its
    negatives.
    """

    group: str | None = None
    """The column that names each row's group, null in none; None: no groups, as plain `Data`."""
    left_out: str | None = None
    """The group whose rows training does not see, as written in its cells; None: training sees all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.left_out is not None and self.group is None:
            raise InputError(f"data.left_out={self.left_out!r} is a group: name the column of groups with --data.group")
        if self.group is not None and (self.streaming or self.mix):
            raise InputError(
                "data.group works with one set that is not a stream: leave out --data.streaming and --data.mix"
            )

    def open(self, split: str | None = None) -> Rows:
        """As `Data.open`; the training split lacks the rows of the split "left-out".

        Raises:
            InputError: there is no such group, or only that one; a row has no group; a group is left out and `split`
                is another slice of the training split.
        """
        if self.group is None or split not in (None, "left-out", self.split):
            if self.left_out is not None:
                _refuse_others(split, self.split, f"group {self.left_out!r} is left out")
            return super().open(split)
        rows = super().open()
        groups: dict[str, list[int]] = {}
        for number, cell in enumerate(rows.column(self.group)):
            groups.setdefault("" if label_key(cell) is None else str(cell), []).append(number)
        if alone := groups.get(""):  # they might belong to the group that is left out
            raise InputError(
                f"column {self.group!r} of {rows.label} names no group in {len(alone)} of {len(rows)} rows, first row "
                f"{alone[0]}: give them one, or take them out of the data"
            )
        if split == "left-out" and self.left_out is None:
            raise InputError("no group is left out: name it with --data.left-out")
        if self.left_out is not None and (self.left_out not in groups or len(groups) < 2):
            raise InputError(
                f"data.left_out={self.left_out!r}: column {self.group!r} of {rows.label} has the groups "
                f"{sorted(groups)}; one of several can be left out"
            )
        if split == "left-out":
            return rows.take(groups[str(self.left_out)])
        kept = {name: numbers for name, numbers in groups.items() if name != self.left_out}
        if self.batches == "one":
            return Mixture([rows.take(numbers) for numbers in kept.values()], batches="one")
        return rows.take(sorted(number for numbers in kept.values() for number in numbers))


def _things(rows: Rows, column: str) -> Ids:
    """[N] the number of the thing in each row's cell: equal cells share one, numbered by first appearance."""
    every, column = rows.numbers(), rows.resolve(column)
    some = every[np.linspace(0, len(every) - 1, min(len(every), LOOKED_AT)).astype(int)].tolist()
    looked_at = zip(some, (row.get(column) for row in rows.fetch(some, [column])), strict=True)
    files = any(_names_file(resolve_path(cell, rows.base_of(number))) for number, cell in looked_at)
    numbered = zip(every.tolist(), rows.cells(column), strict=True)
    cells = (resolve_path(_compared(cell), rows.base_of(number)) for number, cell in numbered)
    things: Ids = np.unique(first_of_content([cells], len(rows), [Files() if files else None]), return_inverse=True)[1]
    return things


def _names_file(cell: Any) -> bool:
    """Whether a cell, or any item of a list, is the path of a file that exists."""
    if isinstance(cell, list):
        return any(map(_names_file, cell))
    name = file_of(cell, files=True)
    return name is not None and os.path.isfile(name)  # noqa: PTH113 - pathlib may raise for a text


def _compared(cell: Any) -> Any:
    """A cell in the form that is compared: stripped text, media, or a list of these; for all else its label as text."""
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, list) and all(part is None or isinstance(part, str | bytes | dict) for part in cell):
        return [_compared(part) for part in cell]
    if isinstance(cell, bytes) or (isinstance(cell, dict) and not {"bytes", "path"}.isdisjoint(cell)):
        return cell
    return label_key(cell)


def _refuse_others(split: str | None, training: str, why: str) -> None:
    """Refuse another slice of the split that training uses: it may overlap with the rows kept back."""
    if split is not None and split.partition("[")[0] == training.partition("[")[0]:
        raise InputError(
            f"split {split!r}: {why} of {training!r}, and may be in it; name {training!r}, which gives the rest"
        )
