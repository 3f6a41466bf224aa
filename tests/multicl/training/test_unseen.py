from __future__ import annotations

from typing import Any

import pytest
from toys import Vectors, rows

from multicl import InputError, Pair, Target, Train, Trainer
from multicl.graph import Term

NODES = {"a": Vectors(), "b": Vectors(width=5)}


def fit(terms: list[Term], data: Any, steps: int = 6) -> None:
    space = "joint" if isinstance(terms[0], Pair) else None
    Trainer(NODES, terms, data, train=Train(batch_size=8, steps=steps), space=space).fit()


@pytest.mark.parametrize(
    ("change", "terms", "what"),
    [
        (lambda i, row: {**row, "a": "no vector"}, [Pair("a", "b")], "both 'a' and 'b'"),
        (lambda i, row: {**row, "ab"[i % 2]: None}, [Pair("a", "b")], "both 'a' and 'b'"),
        (lambda i, row: {**row, "a": [1.0]}, [Pair("a", "a"), Pair("a", "b")], "'a', and none had both 'a' and 'b'"),
        (lambda i, row: {"label": i % 2} if i < 2 else {**row, "label": -1},
         [Target("a", "label"), Target("b", "label")],
         "both 'a' and a label of 'label', and none had both 'b' and a label of 'label'"),
    ],
)  # fmt: skip
def test_a_run_that_can_learn_nothing_ends_with_an_error(change: Any, terms: list[Term], what: str) -> None:
    data = [change(i, row) for i, row in enumerate(rows(32))]
    with pytest.raises(InputError, match=f"nothing can be learnt: in 4 steps no usable row had {what}"):
        fit(terms, data)


def test_one_of_several_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    data = [{**row, "ab"[i % 2]: None} for i, row in enumerate(rows(32))]
    fit([Pair("a", "a"), Pair("a", "b")], data)
    assert "warning: in 4 steps no usable row had both 'a' and 'b'" in capsys.readouterr().out


def test_rows_that_come_late_are_seen(capsys: pytest.CaptureFixture[str]) -> None:
    data = [{**row, "a": None if i else row["a"]} for i, row in enumerate(rows(32))]
    fit([Pair("a", "b")], data)
    assert "no row" not in capsys.readouterr().out
