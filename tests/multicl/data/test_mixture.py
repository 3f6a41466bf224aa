"""Data sets of different columns in one run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ranked_mixture import DATA, TRAIN, mixed, trained
from ranks import run_ranks
from toys import Vectors, rows

from multicl import Data, InputError, Pair, Train, Trainer
from multicl.data.ids import SET_BITS
from multicl.data.loading import Steps, open_data
from multicl.data.mixture import Mixture, Order
from multicl.data.reader import Reader
from multicl.data.rows import open_rows


def sets(*sizes: int, **options: Any) -> Mixture:
    return Mixture([open_rows([{"x": i} for i in range(n)]) for n in sizes], **options)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(8, 40), min_size=2, max_size=4),
    st.lists(st.floats(0.5, 3), min_size=4, max_size=4),
    st.integers(0, 9),
)
def test_an_order_takes_every_row_of_a_set_once_a_pass(sizes: list[int], weights: list[float], seed: int) -> None:
    order = Order(sets(*sizes, weights=weights[: len(sizes)]), 4, seed)
    visits: dict[int, list[int]] = {s: [] for s in range(len(sizes))}
    for epoch in range(6):
        numbers = order.epoch(epoch)
        assert len(numbers) == order.epoch_steps * 4
        assert np.array_equal(numbers, Order(order.rows, 4, seed).epoch(epoch))  # nothing is kept between epochs
        for number in numbers.tolist():
            visits[number >> SET_BITS].append(number & ((1 << SET_BITS) - 1))
    for s, size in enumerate(sizes):
        whole = visits[s]  # its passes one after the other: rows of a pass are all different
        for start in range(0, len(whole) - size + 1, size):
            assert sorted(whole[start : start + size]) == list(range(size))
        assert len(whole) == pytest.approx(6 * order.epoch_steps * 4 * weights[s] / sum(weights[: len(sizes)]), abs=6)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(12, 60), min_size=2, max_size=4),
    st.lists(st.floats(0.5, 3), min_size=4, max_size=4),
    st.integers(2, 12),
    st.sampled_from(["mixed", "one"]),
    st.integers(0, 9),
)
def test_no_batch_has_a_row_twice(sizes: list[int], weights: list[float], batch: int, how: Any, seed: int) -> None:
    mixture = sets(*sizes, weights=weights[: len(sizes)], batches=how)
    if how == "one":  # an epoch has a batch of each set, or the mixture is refused
        assume(min(mixture.weights) / sum(mixture.weights) * (sum(sizes) // batch) >= 1)
    order = Order(mixture, batch, seed)
    for epoch in range(8):
        for numbers in order.epoch(epoch).reshape(-1, batch).tolist():
            for s, size in enumerate(sizes):
                mine = [n for n in numbers if n >> SET_BITS == s]
                if size >= 2 * (len(mine) + 2):  # smaller sets cannot help it, or not always
                    assert len(set(mine)) == len(mine)


def test_without_weights_sets_are_as_one_table() -> None:
    order = Order(sets(30, 10), 4, 0)
    assert sorted(order.epoch(3).tolist()) == sorted(order.rows.numbers().tolist())
    shares = [sum(n >> SET_BITS == 0 for n in batch) for batch in order.epoch(0).reshape(-1, 4)]
    assert set(shares) <= {2, 3, 4}  # three of four, give or take one


def test_a_batch_may_be_of_one_set() -> None:
    order = Order(sets(40, 16, weights=[1, 3], batches="one"), 8, 0)
    batches = [order.epoch(e).reshape(-1, 8) >> SET_BITS for e in range(4)]
    counts = Counter(int(batch[0]) for epoch in batches for batch in epoch)
    assert all(len(set(batch.tolist())) == 1 for epoch in batches for batch in epoch)
    assert counts[1] == pytest.approx(3 * counts[0], abs=4)
    assert [batch[0] for batch in batches[0]] != sorted(batch[0] for batch in batches[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sets(8, 8, weights=[1, -1]), "weight of the data must be above 0, got -1"),
        (lambda: Order(sets(4, 5), 10, 0), r"the batch \(10\) is larger than the data \(9 rows"),
        (lambda: Order(sets(40, 4, weights=[1, 9]), 16, 0), "has 4 rows, and a batch would take 15 of them"),
        (lambda: Order(sets(40, 4, batches="one"), 8, 0), "has 4 rows, and a batch would take 8 of them"),
        (lambda: Order(sets(40, 40, weights=[1, 1e-9]), 8, 0), "so small that an epoch takes no row"),
        (lambda: open_data([[{"x": 1}], iter([])]), "can be read only once"),
        (lambda: Data(mix={"a.parquet": -1.0}), "mix of a.parquet must be 0 or more, got -1"),
    ],
)
def test_what_cannot_be_mixed_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_a_column_that_no_set_has_is_refused() -> None:
    with pytest.raises(InputError, match="no column 'c'"):
        Reader(Mixture([open_rows(rows(4)), open_rows(rows(4))]), {"c": Vectors()}, [Pair("c", "c")])


def test_a_column_of_none_is_refused() -> None:
    data = [{"a": row["a"], "b": None} for row in rows(4)]
    with pytest.raises(InputError, match="column 'b' of the data, which 'b' reads, is null in every row"):
        Reader(open_rows(data), {"a": Vectors(), "b": Vectors()}, [Pair("a", "b")])


def test_columns_that_a_set_lacks_are_absent_and_ids_hold_over_sets() -> None:
    both = rows(6)
    left = [{"a": row["a"], "text": row["text"]} for row in both]
    right = [{"b": row["b"], "caption": row["text"], "text": None} for row in both]
    mixture = Mixture([open_rows(left), open_rows(right, columns={"text": "caption"})])
    reader = Reader(mixture, {"a": Vectors(), "b": Vectors()}, [Pair("a", "b", ids="text")])
    part = reader.slice(mixture.numbers().tolist(), 0)
    assert part.batches["a"] is not None
    assert part.batches["b"] is not None
    assert part.batches["a"].row.tolist() == list(range(6))
    assert part.batches["b"].row.tolist() == [(1 << SET_BITS) + i for i in range(6)]
    torch.testing.assert_close(part.batches["b"].get("x")[2], torch.tensor(both[2]["b"]))
    ids = part.ids["a-b"]
    assert torch.equal(ids[:6], ids[6:])
    assert len(ids.unique()) == 6
    assert torch.equal(part.ids_of(reader.pairs[0], part.batches["b"].row), ids[6:])


def test_a_file_and_its_mix_are_opened_with_their_own_columns(tmp_path: Path) -> None:
    import media

    media.write(tmp_path / "one.parquet", [{"img": media.png(i), "text": f"t{i}"} for i in range(5)])
    media.write(tmp_path / "two.parquet", [{"image": media.png(i), "sound": i} for i in range(3)])
    data = Data(path=str(tmp_path / "one.parquet"), mix={str(tmp_path / "two.parquet"): 2.0}, weight=1.0,
                columns={"image": "img"})  # fmt: skip
    opened = data.open()
    assert isinstance(opened, Mixture)
    assert (opened.sizes, opened.weights) == ([5, 3], [1.0, 2.0])
    assert [cell["bytes"] if isinstance(cell, dict) else cell for cell in opened.column("image")] == [
        *(media.png(i) for i in range(5)), *(media.png(i) for i in range(3)),
    ]  # fmt: skip
    assert opened.column("text") == [*(f"t{i}" for i in range(5)), None, None, None]
    assert not isinstance(data.open(str(tmp_path / "two.parquet")), Mixture)  # the held-out one is one set


def test_a_second_visit_in_an_epoch_is_another_view() -> None:
    mixture = Mixture([open_rows(rows(8)), open_rows(rows(80, seed=1))], [1, 1])
    steps = Steps(Reader(mixture, {"a": Vectors()}, [Pair("a", "a")]), 8, 0, 1)
    assert steps.order.epoch_steps == 11
    assert [steps[i].epoch for i in range(3)] == [0, 1, 2]


def test_two_ranks_see_the_batches_of_one(tmp_path: Path) -> None:
    whole = trained(None)
    halves = run_ranks(trained, 2, None)
    for name, value in whole.items():
        torch.testing.assert_close(torch.tensor(halves[0][name]), torch.tensor(value), rtol=1e-4, atol=1e-6)
    assert halves[0] == halves[1]


def test_a_run_goes_on_as_if_never_broken(tmp_path: Path) -> None:
    whole = trained(None)
    trained(str(tmp_path / "run"), steps=5)
    assert trained(str(tmp_path / "run"), resume=True) == whole


def test_mining_searches_all_sets() -> None:
    from multicl import Mine

    pair = Pair("a", "b", mine=Mine(every=2, negatives=2))
    trainer = Trainer(
        {"a": Vectors(), "b": Vectors()}, [pair], mixed(), train=Train(batch_size=8, steps=3, lr=0.01)
    )  # fmt: skip
    trainer.fit()
    table = trainer.miner.tables["a-b"]
    assert len(table) == sum(len(s) for s in DATA)
    assert (table >= len(DATA[0])).any()
    assert TRAIN.batch_size == 8


def test_some_rows_of_several_sets_are_of_their_sets_still(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "t.csv").write_text("img,text\na.png,t0\nb.png,t1\nc.png,t2\n")
    (tmp_path / "two.csv").write_text("image,text\nd.png,u0\ne.png,u1\n")
    mixed = Data(path=str(tmp_path / "one" / "t.csv"), mix={str(tmp_path / "two.csv"): 2.0}, weight=1.0,
                 columns={"image": "img"}, batches="one").open()  # fmt: skip
    some = mixed.take([0, 2, 4])
    assert isinstance(some, Mixture)
    assert (some.sizes, some.weights, some.batches) == ([2, 1], [1.0, 2.0], "one")
    assert some.column("image") == ["a.png", "c.png", "e.png"]
    assert [some.base_of(int(n)) for n in some.numbers()] == [tmp_path / "one"] * 2 + [tmp_path]
    assert isinstance(mixed.first(4), Mixture)
    more = mixed.with_column("n", range(5))
    assert isinstance(more, Mixture)
    assert (more.column("n"), more.weights, more.column("image")) == (list(range(5)), [1.0, 2.0], mixed.column("image"))
    assert mixed.take([3]).column("text") == ["u0"]
    with pytest.raises(InputError, match="only be taken in ascending order"):
        mixed.take([2, 0])
    with pytest.raises(InputError, match="5 rows, but column 'n' would have 4 values"):
        mixed.with_column("n", range(4))


def test_without_weights_fewer_rows_weigh_less() -> None:
    mixed = Mixture([open_rows(rows(8)), open_rows(rows(4))])
    assert isinstance(some := mixed.take([0, 1, 8]), Mixture)
    assert some.weights == [2, 1]
