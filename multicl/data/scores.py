"""The cells of pairs' targets, graded scores or 0 and 1 -> numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multicl.data.cells import is_null
from multicl.data.rows import Row, Rows
from multicl.pairs import Pair
from multicl.types import InputError


class Scores:
    """How near rows' two should be, for each pair that has a target.

    Raises:
        InputError: no such column; a cell that is none (`numbers_of`); a column whose scores are all the same.
    """

    def __init__(self, rows: Rows, pairs: Sequence[Pair]) -> None:
        self.pairs = {p: rows.resolve(p.target, f", the target of pair {p.name!r}") for p in pairs if p.target}
        self.rows = rows
        self.every: dict[Pair, Tensor] | None = None
        """[N] of all rows; None: rows are a stream, and tell when they come."""
        if not rows.streaming:
            self.every = {pair: numbers_of(pair, rows.cells(column)) for pair, column in self.pairs.items()}
            for pair, scores in self.every.items():
                _check_variance(pair, scores)

    def of(self, numbers: Sequence[int], fetched: Mapping[int, Row]) -> dict[str, Tensor]:
        """Pair -> [n] float32 of these rows."""
        if self.every is not None:
            places = torch.from_numpy(self.rows.places(numbers))
            return {pair.name: scores[places] for pair, scores in self.every.items()}
        return {
            pair.name: numbers_of(pair, [fetched[n].get(column) for n in numbers], numbers)
            for pair, column in self.pairs.items()
        }


def numbers_of(pair: Pair, cells: Iterable[Any], rows: Iterable[int] | None = None) -> Tensor:
    """[N] float32, NaN where a row has no score.

    Args:
        rows: how an error calls them; default: 0, 1, ...

    Raises:
        InputError: a cell that is no number, or neither 0 nor 1 where the objective takes no others.
    """
    binary = getattr(pair.objective, "scores", None) == "binary"
    found = []
    for row, cell in zip(count() if rows is None else rows, cells, strict=False):
        try:
            value = np.nan if is_null(cell) else float(cell)
        except (TypeError, ValueError):
            value = np.inf
        if np.isinf(value) or (binary and not np.isnan(value) and value not in (0, 1)):
            raise InputError(
                f"pair {pair.name!r}: row {row}, column {pair.target!r}: {cell!r} is "
                f"{'neither 0 nor 1' if binary else 'no number'}; correct it, or make it null to leave the row out"
            )
        found.append(value)
    return torch.tensor(found, dtype=torch.float32)


def _check_variance(pair: Pair, scores: Tensor) -> None:
    known = scores[~scores.isnan()].unique()
    if len(known) < 2:
        held = f"holds {known[0]:g} alone" if len(known) else "is empty"
        raise InputError(f"pair {pair.name!r}: column {pair.target!r} {held}: scores that differ are needed")
