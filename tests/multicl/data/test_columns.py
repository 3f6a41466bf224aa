from __future__ import annotations

from typing import Any

import pytest
from toys import Vectors, rows

from multicl import Data, InputError, Pair, Target, Train, Trainer


def trainer(columns: dict[str, str], data: Any = None, **options: Any) -> Trainer:
    """Two nodes, one of which reads "second", ids in "ids" and labels in "label"."""
    cells = [{"x": row["a"], "y": row["b"], "z": i, "label": "uv"[i % 2]} for i, row in enumerate(rows(8))]
    modalities = {"first": Vectors(), "other": Vectors(width=5, column="second")}
    terms = [Pair("first", "other", ids="ids"), Target("first", "label")]
    return Trainer(modalities, terms, cells if data is None else data, columns=columns, train=Train(batch_size=8))


EVERY = {"first": "x", "second": "y", "ids": "z"}


def test_all_that_a_graph_asks_for_is_mapped() -> None:
    assert trainer({**EVERY, "label": "label"}).reader.columns == {"first": "x", "other": "y"}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {**EVERY, "frist": "x"},
            r"maps 'frist' to a column, but the names asked for are \['first', .*'label'\]; did you mean 'first'",
        ),
        ({**EVERY, "nothing like it": "x"}, r"'label'\]$"),
        ({**EVERY, "other": "y"}, r"maps 'other' to .*; node 'other' asks for 'second'$"),
        (
            {**EVERY, "label": "lable"},
            r"maps 'label' to 'lable', but the data's columns are \['x', 'y', 'z', 'label'\]; did you mean 'label'",
        ),
    ],
)
def test_what_would_be_passed_over_is_refused(columns: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        trainer(columns)


@pytest.mark.parametrize("several", [False, True])
def test_data_have_columns_of_their_own(several: bool) -> None:
    data = Data(path="x.jsonl")
    with pytest.raises(InputError, match=r"columns=\{'first': 'x'\} .* write Data\(columns=\.\.\.\)"):
        trainer({"first": "x"}, [data, data] if several else data)


def test_one_of_several_sets_may_have_the_column() -> None:
    one = [{"x": row["a"], "second": row["b"], "ids": i, "label": "u"} for i, row in enumerate(rows(8))]
    two = [{"first": row["a"], "second": row["b"], "ids": i, "label": "v"} for i, row in enumerate(rows(8))]
    sets = [datasets_of(one), datasets_of(two)]
    assert trainer({"first": "x"}, sets).size == 16


def datasets_of(cells: list[dict[str, Any]]) -> Any:
    import datasets

    return datasets.Dataset.from_list(cells)
