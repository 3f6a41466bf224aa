from __future__ import annotations

from collections import Counter
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicl.config import from_plain, parse_arguments, to_plain
from multicl.data.grouped import grouped, grouped_order
from multicl.data.loading import Data, open_data
from multicl.data.mixture import Mixture, Order
from multicl.data.rows import Rows
from multicl.types import InputError


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(2, 5), st.integers(0, 3))
def test_an_epoch_has_every_row_once_in_groups_of_one_label(labels: list[int], count: int, epoch: int) -> None:
    order = grouped_order(7, epoch, np.array(labels), count)
    assert sorted(order.tolist()) == list(range(len(labels)))
    runs: dict[int, list[int]] = {}
    for label, run in groupby(labels[row] for row in order):
        runs.setdefault(label, []).append(len(list(run)))  # groups of one label may stand side by side
    for label, n in Counter(labels).items():
        assert [length % count for length in runs[label] if length % count] == ([n % count] if n % count else [])
    assert order.tolist() == grouped_order(7, epoch, np.array(labels), count).tolist()


def test_batches_hold_whole_groups_which_chance_makes_anew() -> None:
    rows = Rows([{"label": f"class {i % 50}", "x": i} for i in range(400)])
    order = Order(grouped(rows, "label", 4), 32, seed=0)
    epochs = [order.epoch(epoch) for epoch in range(2)]
    for epoch in epochs:
        assert len(set(epoch.tolist())) == len(epoch) == 384
        for batch in (epoch % 50).reshape(-1, 32):
            assert [len(set(group)) for group in batch.reshape(8, 4).tolist()] == [1] * 8
            assert len(set(batch.tolist())) > 4
    mates = [{frozenset(group) for group in epoch.reshape(-1, 4).tolist()} for epoch in epochs]
    assert len(mates[0] & mates[1]) < 10
    by_chance = Order(rows, 32, seed=0).epoch(0) % 50
    assert np.mean([len(set(batch.tolist())) for batch in by_chance.reshape(-1, 32)]) > 20


def test_rows_without_a_label_are_each_by_itself() -> None:
    rows = grouped(Rows([{"y": label} for label in ("a", None, "a", "", -1, float("nan"), 3, "3")]), "y", 2)
    assert rows.groups is not None
    assert rows.groups[0].tolist() == [0, 1, 0, 2, 3, 4, 5, 5]


def test_settings_say_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,kind\n" + "".join(f"x{i},{i % 3}\n" for i in range(12)))
    path = str(tmp_path / "a.csv")
    rows, _ = open_data(Data(path=path, columns={"label": "kind"}, grouped=("label", 2)))
    kinds = [int(rows.row(i)["kind"]) for i in Order(rows, 6, seed=1).epoch(0)]
    assert all(a == b for a, b in zip(kinds[::2], kinds[1::2], strict=True))
    assert open_data(Data(path=path))[0].groups is None
    for data, message in (
        (Data(path=path, grouped=("kind", 1)), "2 rows or more per value, got 1"),
        (Data(path=path, grouped=("knd", 2)), "no column 'knd'.*Did you mean 'kind'"),
        (Data(path=path, grouped=("name", 2)), "no two rows .* share a value of column 'name'"),
        (Data(path=path, grouped=("kind", 2), streaming=True), "one set that is not a stream"),
        (Data(path=path, grouped=("kind", 2), mix={path: 1.0}), "one set that is not a stream"),
        ([Data(path=path, grouped=("kind", 2)), Data(path=path)], "for one set, and data= names several"),
    ):
        with pytest.raises(InputError, match=message):
            open_data(data)


def test_a_command_line_and_a_file_say_it() -> None:
    wanted = Data(path="x", grouped=("label", 4))
    assert parse_arguments(Data, ["--path", "x", "--grouped", "label", "4"]) == wanted
    assert from_plain(Data, to_plain(wanted)) == wanted


def test_it_is_of_one_set() -> None:
    two = Mixture([Rows([{"a": 1}, {"a": 1}]), Rows([{"a": 1}])])
    with pytest.raises(InputError, match="one set that is not a stream"):
        grouped(two, "a", 2)
