"""A held-out share of data without a split of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multicl import HoldOut, InputError, LeaveOut
from multicl.data import loading
from multicl.data.equal_files import Files
from multicl.data.mixture import Order
from multicl.data.rows import Rows, open_rows


@pytest.fixture(autouse=True, scope="module")
def opened_once() -> Iterator[None]:
    """Files stay as they are here, and are opened once: not for each example, seed and share."""
    rows: dict[str, Rows] = {}

    def once(path: str, **how: Any) -> Rows:
        asked = f"{path} {how}"
        if asked not in rows:
            rows[asked] = open_rows(path, **how)
        return rows[asked]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "open_rows", once)
        yield


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "words.csv"
    path.write_text("word\n" + "".join(f"w{i}\n" for i in range(50)))
    return path


@given(share=st.floats(0.001, 0.999), seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None)  # the first call imports datasets
def test_every_row_is_on_one_side(table: Path, share: float, seed: int) -> None:
    data = HoldOut(path=str(table), hold_out=share, hold_out_seed=seed)
    train, held = data.open().column("word"), data.open("held-out").column("word")
    assert sorted(train + held) == sorted(f"w{i}" for i in range(50))
    assert len(held) == min(max(1, round(50 * share)), 49)
    assert data.open("held-out").column("word") == held


def test_rows_are_drawn_by_chance_and_by_the_seed(table: Path) -> None:
    held = [HoldOut(path=str(table), hold_out_seed=seed).open("held-out").column("word") for seed in (0, 1)]
    assert held[0] != held[1]
    assert held[0] not in ([f"w{i}" for i in range(5)], [f"w{i}" for i in range(45, 50)])


@given(share=st.floats(0.001, 0.999), seed=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_rows_of_one_thing_stay_on_one_side(pictures: Path, share: float, seed: int) -> None:
    data = HoldOut(path=str(pictures), hold_out=share, hold_out_seed=seed, together="image")
    train, held = data.open(), data.open("held-out")
    assert sorted(train.column("caption") + held.column("caption")) == sorted(f"c{i}" for i in range(40))
    kept, back = (({int(c[1:]) % 8 for c in rows.column("caption")}) for rows in (train, held))
    assert kept
    assert back
    assert not kept & back
    assert len(held) <= max(5, round(40 * share))


def test_things_of_several_sets_are_told_by_the_files_of_each(pictures: Path, table: Path) -> None:
    data = HoldOut(path=str(pictures), mix={str(table): 0.0}, hold_out=0.3, together="image")
    train, held = data.open(), data.open("held-out")
    assert len(train) + len(held) == 90
    kept, back = ({int(c[1:]) % 8 for c in rows.column("caption") if c} for rows in (train, held))
    assert back
    assert not kept & back


def test_rows_of_things_that_do_not_repeat_are_those_drawn_without(table: Path) -> None:
    plain, whole = (
        HoldOut(path=str(table), together=column).open("held-out").column("word") for column in (None, "word")
    )
    assert plain == whole


@pytest.mark.parametrize(
    ("cells", "things"),
    [
        ([1, 2, 1, None, None, -1, -1], [0, 1, 0, 2, 3, 4, 5]),
        ([0.5, 0.5, 1.0], [0, 0, 1]),
        ([True, False, True], [0, 1, 0]),
        (["a", " a", "a ", "b", "", " ", "  "], [0, 0, 0, 1, 2, 3, 4]),
        ([["a", "b"], ["c"], ["b", "c"], None, []], [0, 0, 0, 1, 2]),
        ([[None, "p.png"], ["q.png"], ["r.png"]], [0, 0, 1]),  # p and q hold the same bytes
        ([[1, 2], [2, 3], [1, 2]], [0, 1, 0]),
        ([{"name": "a"}, {"name": "b"}, {"name": "a"}], [0, 1, 0]),
        ([{"path": None, "bytes": None}] * 2 + [{"path": "p.png", "bytes": None}, {"path": "q.png"}], [0, 1, 2, 2]),
    ],
)
def test_what_one_thing_is(tmp_path: Path, cells: list[Any], things: list[int]) -> None:
    for name, content in (("p.png", b"one"), ("q.png", b"one"), ("r.png", b"two")):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"cell": c, "row": i}) + "\n" for i, c in enumerate(cells)))
    apart = set()
    for seed, share in product(range(20), (0.2, 0.4)):
        data = HoldOut(path=str(tmp_path / "t.jsonl"), together="cell", hold_out=share, hold_out_seed=seed)
        train, held = ({things[row] for row in rows.column("row")} for rows in (data.open(), data.open("held-out")))
        assert not train & held
        apart |= {frozenset((kept, back)) for kept in train for back in held}
    assert apart == {frozenset(two) for two in combinations(set(things), 2)}


def test_equal_names_in_folders_of_several_sets_are_several_things(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "t.csv").write_text("image,set\n" + "".join(f"{i}.png,{name}\n" for i in range(9)))
        for i in range(9):
            (tmp_path / name / f"{i}.png").write_text(f"{name} {i}")
    one, other = (str(tmp_path / name / "t.csv") for name in ("one", "other"))
    apart = HoldOut(path=one, mix={other: 0}, together="image", hold_out=0.5)
    assert (apart.held == replace(apart, together=None).held).all()


def test_one_thing_in_all_rows_cannot_be_kept_back(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("word,kind\nv,a\nw,a\n")
    with pytest.raises(InputError, match="equal cells in all rows of column 'kind'"):
        HoldOut(path=str(tmp_path / "one.csv"), together="kind").open()
    with pytest.raises(InputError, match="no column 'kynd'"):
        HoldOut(path=str(tmp_path / "one.csv"), together="kynd").open()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures of five captions each; each second time under another name."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(8):
        for name in (f"{i}.png", f"{i}-again.png"):
            (folder / name).write_bytes(b"picture" + bytes([i]))
    names = [f"{i % 8}{'-again' * (i // 8 % 2)}.png" for i in range(40)]
    path = folder / "pairs.csv"
    path.write_text("image,caption\n" + "".join(f"{name},c{i}\n" for i, name in enumerate(names)))
    return path


def test_texts_are_not_looked_for_on_the_disk(
    table: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Files] = []
    monkeypatch.setattr("multicl.data.hold_out.Files", lambda: made.append(Files()) or made[-1])
    cells = ["some words", "x" * 5000, "nul\0", "", None, "more words"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"cell": cell}) + "\n" for cell in cells))
    assert HoldOut(path=str(tmp_path / "a.jsonl"), together="cell").held.sum() == 1
    assert not made
    assert HoldOut(path=str(pictures), together="image").held.any()
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"cell": [cell, "a.jsonl"]}) + "\n" for cell in "abc"))
    with pytest.raises(InputError, match="equal cells in all rows"):
        HoldOut(path=str(tmp_path / "b.jsonl"), together="cell").open()
    assert len(made) == 2


def test_what_cannot_be() -> None:
    with pytest.raises(InputError, match="share in"):
        HoldOut(hold_out=1.0)
    with pytest.raises(InputError, match="stream"):
        HoldOut(streaming=True)


def test_a_single_row_cannot_be_kept_back(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("word\nw\n")
    with pytest.raises(InputError, match="1 rows"):
        HoldOut(path=str(tmp_path / "one.csv")).open()


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "spoken.csv"
    path.write_text("word,speaker\n" + "".join(f"w{i},{'abc'[i % 3]}\n" for i in range(30)))
    return path


@pytest.mark.parametrize("batches", ["mixed", "one"])
def test_a_group_is_left_out(spoken: Path, batches: Literal["mixed", "one"]) -> None:
    data = LeaveOut(path=str(spoken), group="speaker", left_out="b", batches=batches)
    rows = data.open()
    assert sorted(rows.column("word")) == sorted(f"w{i}" for i in range(30) if i % 3 != 1)
    assert data.open("left-out").column("speaker") == ["b"] * 10
    assert len(LeaveOut(path=str(spoken), group="speaker", batches=batches).open()) == 30
    assert len(LeaveOut(path=str(spoken)).open()) == 30


def test_batches_of_one_group(spoken: Path) -> None:
    rows = LeaveOut(path=str(spoken), group="speaker", batches="one").open()
    order = Order(rows, 5, seed=0)
    seen = rows.column("speaker")
    for epoch in range(2):
        numbers = order.epoch(epoch)
        for at in range(order.epoch_steps):
            batch = rows.places(numbers[5 * at : 5 * at + 5])
            assert len({seen[place] for place in batch}) == 1


def test_what_cannot_be_left_out(spoken: Path) -> None:
    with pytest.raises(InputError, match="name the column of groups"):
        LeaveOut(left_out="a")
    with pytest.raises(InputError, match="not a stream"):
        LeaveOut(group="speaker", streaming=True)
    with pytest.raises(InputError, match=r"'d'.*'a', 'b', 'c'"):
        LeaveOut(path=str(spoken), group="speaker", left_out="d").open()
    with pytest.raises(InputError, match="no group is left out"):
        LeaveOut(path=str(spoken), group="speaker").open("left-out")


@pytest.mark.parametrize("cells", [["a", None, "b", None], [1, -1, 2, -1], ["a", "", "b", " "]])
@pytest.mark.parametrize("options", [{}, {"left_out": "a"}, {"batches": "one"}])
def test_rows_of_no_group_are_refused(tmp_path: Path, cells: list[Any], options: dict[str, Any]) -> None:
    """They were a group called None, and might be of the one left out."""
    path = tmp_path / "spoken.jsonl"
    path.write_text("".join(json.dumps({"word": f"w{i}", "speaker": cell}) + "\n" for i, cell in enumerate(cells)))
    with pytest.raises(InputError, match=r"column 'speaker' of .* names no group in 2 of 4 rows, first row 1: give"):
        LeaveOut(path=str(path), group="speaker", **options).open()


def test_no_split_brings_back_what_is_held_out(table: Path, spoken: Path) -> None:
    data = HoldOut(path=str(table))
    assert data.open("train").column("word") == data.open().column("word")
    with pytest.raises(InputError, match=r"split 'train\[:9\]': rows are held out of 'train'"):
        data.open("train[:9]")
    of = LeaveOut(path=str(spoken), group="speaker", left_out="a")
    assert set(of.open("train").column("speaker")) == {"b", "c"}
    with pytest.raises(InputError, match=r"group 'a' is left out of 'train'.*name 'train', which gives the rest"):
        of.open("train[:9]")
    assert len(LeaveOut(path=str(spoken), group="speaker").open("train[:9]")) == 9
