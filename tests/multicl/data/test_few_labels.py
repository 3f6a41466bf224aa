from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import media
import pytest

from multicl import InputError
from multicl.data.few_labels import FewLabels, few_labels
from multicl.data.rows import open_rows


@pytest.mark.parametrize(("share", "each"), [(0.01, 1), (0.1, 5), (0.5, 25), (1.0, 50)])
def test_of_each_class_equally_many_keep_their_label(share: float, each: int) -> None:
    labels = [i % 4 for i in range(200)]
    kept = few_labels(labels, share, seed=0)
    assert Counter(kept) == Counter({None: 200 - 4 * each, **dict.fromkeys(range(4), each)}) - Counter({None: 0})
    assert all(value in (None, label) for value, label in zip(kept, labels, strict=True))
    assert kept == few_labels(labels, share, seed=0)
    assert share == 1 or kept != few_labels(labels, share, seed=1)


def test_more_labels_are_the_fewer_and_others() -> None:
    labels = ["ab"[i % 2] for i in range(100)]
    few, more = (few_labels(labels, share, seed=3) for share in (0.1, 0.4))
    assert all(b == a for a, b in zip(few, more, strict=True) if a is not None)


def test_small_classes_give_all_they_have_and_rows_without_a_label_none() -> None:
    labels = ["a"] * 2 + ["b"] * 20 + [None, -1, ""]
    kept = few_labels(labels, 0.5, seed=0)
    assert Counter(kept) == {"a": 2, "b": 6, None: 17}
    with pytest.raises(InputError, match="no row has a label"):
        few_labels([None, -1], 0.5, seed=0)


def test_the_training_split_has_the_column_and_others_have_not(tmp_path: Path) -> None:
    data = FewLabels(path=str(media.folder(tmp_path / "data")), labels=0.5)
    rows = data.open()
    known = rows.column("known")
    assert sum(value is not None for value in known) == 16
    assert [k for k in known if k is not None] == [
        label for label, k in zip(rows.column("label"), known, strict=True) if k is not None
    ]
    assert rows.row(5)["known"] == known[5]
    assert not data.open("test").has("known")
    only = replace(data, only=True).open()
    assert only.column("known") == only.column("label") == [label for label in known if label is not None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": 0.0}, r"data\.labels must be a share in \(0, 1\], got 0"),
        ({"labels": 1.5}, "got 1.5"),
        ({"streaming": True}, "a stream's labels cannot be counted in advance"),
    ],
)
def test_settings_that_cannot_work(options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FewLabels(path="x", **options)


def test_one_more_column_of_any_rows(tmp_path: Path) -> None:
    listed = open_rows([{"a": 1}, {"a": 2}], columns={"x": "a"})
    table = open_rows(str(media.write(tmp_path / "t.parquet", [{"a": 1}, {"a": 2}])), columns={"x": "a"})
    for rows in (listed, table):
        more = rows.with_column("b", ["u", None])
        assert (more.column("b"), more.column("x"), more.names) == (["u", None], [1, 2], ["a", "b"])
        assert (more.base, more.label) == (rows.base, rows.label)
        assert rows.names == ["a"]
        assert more.take([1]).column("x") == [2]
        assert more.take([1, 0]).column("b") == [None, "u"]
        with pytest.raises(InputError, match="has a column 'a' already"):
            rows.with_column("a", [1, 2])
        with pytest.raises(InputError, match="has 2 rows, but column 'b' would have 1 values"):
            rows.with_column("b", [1])


def test_the_values_of_a_new_column_are_not_pickled_one_by_one() -> None:
    """`datasets` pickles the arguments that it is given for their hash: of a list a million values take a second."""
    pickled = []

    class Noted(str):
        def __reduce_ex__(self, protocol: Any) -> Any:
            pickled.append(self)
            return str, (str(self),)

    rows = open_rows(datasets.Dataset.from_dict({"a": ["x", "y"]})).with_column("b", [Noted("u"), None])
    assert (rows.column("b"), pickled) == (["u", None], [])
