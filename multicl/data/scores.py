"""The scores of pairs that have a target column (graded, or 0 and 1), as tensors."""

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
    """How similar a row's two sides should be, for each pair that has a target.

    Raises:
        InputError: there is no such column; a cell is not a score (`numbers_of`); a column's scores are all equal.
    """

    def __init__(self, rows: Rows, pairs: Sequence[Pair]) -> None:
        self.pairs = {p: rows.resolve(p.target, f", the target of pair {p.name!r}") for p in pairs if p.target}
        self.rows = rows
        self.every: dict[Pair, Tensor] | None = None
        """Pair -> [N] float32 of all rows; None: the rows are a stream, and scores are read along with them."""
        if not rows.streaming:
            self.every = {pair: numbers_of(pair, rows.cells(column)) for pair, column in self.pairs.items()}
            for pair, scores in self.every.items():
                _check_variance(pair, scores)

    def of(self, numbers: Sequence[int], fetched: Mapping[int, Row]) -> dict[str, Tensor]:
        """The pair's name -> [n] float32 scores of these rows, NaN where a row has none."""
        if self.every is not None:
            places = torch.from_numpy(self.rows.places(numbers))
            return {pair.name: scores[places] for pair, scores in self.every.items()}
        return {
            pair.name: numbers_of(pair, [fetched[n].get(column) for n in numbers], numbers)
            for pair, column in self.pairs.items()
        }


def numbers_of(pair: Pair, cells: Iterable[Any], rows: Iterable[int] | None = None) -> Tensor:
    """[N] float32 scores, NaN where a row has none.

    Args:
        rows: the row numbers that an error message gives; default: 0, 1, ...

    Raises:
        InputError: a cell is not a finite number, or, for an objective with binary scores, neither 0 nor 1.
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
                f"{'neither 0 nor 1' if binary else 'not a number'}; correct it, or make it null to leave the row out"
            )
        found.append(value)
    return torch.tensor(found, dtype=torch.float32)


def _check_variance(pair: Pair, scores: Tensor) -> None:
    known = scores[~scores.isnan()].unique()
    if len(known) < 2:
        held = f"holds only {known[0]:g}" if len(known) else "is empty"
        raise InputError(f"pair {pair.name!r}: column {pair.target!r} {held}: scores that differ are needed")
