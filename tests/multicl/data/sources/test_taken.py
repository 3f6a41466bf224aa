"""Columns of a table of which rows were taken."""

from __future__ import annotations

import time
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest

from multicl.data.rows import Rows
from multicl.data.sources.taken import BATCH, cells_of

ROWS = 3 * BATCH + 7
DATA = datasets.Dataset.from_dict(
    {
        "text": [None if i % 11 == 0 else f"text {i}" for i in range(ROWS)],
        "image": [{"bytes": b"%d" % i, "path": None} for i in range(ROWS)],
        "label": [i % 3 for i in range(ROWS)],
    },
    datasets.Features(
        {
            "text": datasets.Value("string"),
            "image": datasets.Image(decode=False),
            "label": datasets.ClassLabel(names=["a", "b", "c"]),
        }
    ),
)
CHANCE = np.random.default_rng(0)


@pytest.mark.parametrize(
    "places",
    [
        None,
        range(ROWS),
        range(2, ROWS),
        range(0, ROWS, 2),
        np.flatnonzero(CHANCE.random(ROWS) < 0.9),
        np.flatnonzero(CHANCE.random(ROWS) < 0.1),
        [*range(5), *range(2 * BATCH, ROWS)],  # of the second thousand none
        [*range(ROWS - 1, 0, -1)],
        [*range(2000), 1999],
        CHANCE.permutation(ROWS),
        [ROWS - 1],
        [],
    ],
)
def test_cells_are_those_of_the_rows(places: Any) -> None:
    data = DATA if places is None else DATA.select(places)
    for again in (data, data.select([i for i in range(len(data)) if i % 5])):
        rows = list(again)
        for column in again.column_names:
            assert list(cells_of(again, column)) == [row[column] for row in rows]


class Elsewhere:
    """A data set that keeps its rows' places otherwise than is known here."""

    def __init__(self, data: datasets.Dataset, places: Any) -> None:
        self._data, self._places = data, places

    def __getattr__(self, name: str) -> Any:
        if name != "_indices":
            return getattr(self._data, name)
        if self._places is None:
            raise AttributeError(name)
        return self._places

    def __len__(self) -> int:
        return len(self._data)

    def select_columns(self, names: list[str]) -> Elsewhere:
        return Elsewhere(self._data.select_columns(names), self._places)


@pytest.mark.parametrize(
    "places", [None, [1, 2], pa.table({"places": ["a"] * (ROWS - 2)}), pa.table({"places": [0, 1]}), pa.table({})]
)
def test_places_that_are_kept_otherwise_are_left_to_datasets(places: Any) -> None:
    data = DATA.select(range(0, ROWS, 2)) if places is None else DATA.select([*range(5), *range(7, ROWS)])
    assert list(cells_of(Elsewhere(data, places), "text")) == [row["text"] for row in data]


def test_a_table_of_which_most_rows_were_taken_is_read_at_once() -> None:
    rows = 100_000
    data = datasets.Dataset.from_dict({"text": ["some words"] * rows}).select([i for i in range(rows) if i % 10])

    def seconds(read: Any) -> float:
        began = time.perf_counter()
        assert sum(1 for _ in read) == len(data)
        return time.perf_counter() - began

    one_by_one = (cell for batch in data.iter(batch_size=BATCH) for cell in batch["text"])
    assert seconds(Rows(data).cells("text")) < seconds(one_by_one) / 2
