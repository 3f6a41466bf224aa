from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multicl.data.equal_files import Files
from multicl.data.ids import content_ids, content_key, first_of_content, label_ids, label_key, row_id, row_ids
from multicl.seeds import hash62
from multicl.types import InputError

few = settings(deadline=None, max_examples=25)
cells = st.one_of(st.none(), st.text(max_size=3), st.binary(max_size=3), st.integers(0, 5), st.floats())
UNLABELLED = [None, -1, -1.0, np.int64(-1), np.float32(-1), torch.tensor(-1), "-1", "", "  ", float("nan"), np.nan]


def test_ids_are_the_same_on_every_machine_and_for_ever() -> None:
    assert label_ids(["cat"], [0]).tolist() == [388727968944728742]
    assert row_ids([0]).tolist() == [1287273986769486445]
    assert content_key(b"abc") == 1613825014887689974
    assert content_key("abc") == 1314758168755106669


@few
@given(st.lists(cells, max_size=20))
def test_ids_are_62_bits_of_int64_in_every_namespace(values: list[Any]) -> None:
    numbers = range(len(values))
    for ids in (label_ids(values, numbers), row_ids(numbers), content_ids([values], numbers)[0]):
        assert ids.dtype == np.int64
        assert ids.shape == (len(values),)
        assert ((ids >= 0) & (ids < 1 << 62)).all()


@pytest.mark.parametrize(
    "alike",
    [
        (3, 3.0, "3", " 3 ", np.int64(3), np.float32(3), np.str_("3"), np.array(3), torch.tensor(3), torch.tensor(3.0)),
        (1, True, np.bool_(True), "1"),
        (0.5, "0.5", np.float64(0.5), np.float32(0.5)),
        ("cat", np.str_("cat"), " cat"),
        (10**30, float(10**30), str(int(1e30))),
    ],
)
def test_strings_and_numbers_alike(alike: tuple[Any, ...]) -> None:
    if alike[0] == 10**30:
        alike = alike[1:]
    assert len(set(label_ids(alike, range(len(alike))).tolist())) == 1


@pytest.mark.parametrize("value", UNLABELLED)
def test_no_label_makes_a_row_its_own_class(value: Any) -> None:
    assert label_key(value) is None
    assert label_ids([value, value], [4, 7]).tolist() == [row_id(4), row_id(7)]


@few
@given(st.lists(st.sampled_from(["a", "b", 1, 2.0, None, -1]), min_size=1, max_size=30), st.randoms())
def test_equal_labels_have_equal_ids_and_no_others(values: list[Any], rng: Any) -> None:
    ids = label_ids(values, range(len(values)))
    for i, x in enumerate(values):
        for j, y in enumerate(values):
            assert (ids[i] == ids[j]) == (i == j or (x == y and x not in (None, -1)))
    order = rng.sample(range(len(values)), len(values))
    assert np.array_equal(label_ids([values[i] for i in order], order), ids[order])


def test_namespaces_do_not_meet() -> None:
    text = [str(n) for n in range(50)]
    labels, rows = label_ids(range(50), range(50)), row_ids(range(50))
    contents, shared = content_ids([text * 2], range(100))
    assert shared == 100
    assert len({*labels.tolist(), *rows.tolist(), *contents.tolist()}) == 150


def components(columns: list[list[Any]], rows: int) -> list[int]:
    """By brute force: the smallest row that each row is joined with."""
    group = list(range(rows))
    for _ in range(rows):
        for column in columns:
            for i in range(rows):
                for j in range(rows):
                    if column[i] is not None and column[i] == column[j]:
                        group[i] = group[j] = min(group[i], group[j])
    return group


@few
@given(
    st.integers(1, 9).flatmap(
        lambda n: st.lists(
            st.lists(st.sampled_from([None, "a", "b", "c", b"a"]), min_size=n, max_size=n), min_size=1, max_size=3
        )
    )
)
def test_contents_join_rows_transitively(columns: list[list[Any]]) -> None:
    n = len(columns[0])
    ids, shared = content_ids(columns, range(n))
    group = components(columns, n)
    for i in range(n):
        for j in range(n):
            assert (ids[i] == ids[j]) == (group[i] == group[j])
    assert shared == sum(group.count(g) > 1 for g in group)


def test_a_chain_of_repeats_is_about_one_thing() -> None:
    texts = ["x", "x", "y", "z"]
    images = [b"1", b"2", b"2", b"3"]
    ids, shared = content_ids([texts, images], range(4))
    assert ids[0] == ids[1] == ids[2]
    assert ids[3] == row_id(3)
    assert shared == 3


def test_rows_that_share_nothing_keep_their_row_ids() -> None:
    ids, shared = content_ids([["a", None, "c", ""], [None, None, b"x", b""]], range(4))
    assert ids.tolist() == [row_id(i) for i in range(4)]
    assert shared == 0


def test_no_rows() -> None:
    assert content_ids([[]], [])[0].tolist() == []
    assert label_ids([], []).tolist() == []


@pytest.mark.parametrize(
    ("value", "same"),
    [
        ("a text", " a text\n"),
        (b"bytes", {"bytes": b"bytes", "path": "x.png"}),
        (b"bytes", bytearray(b"bytes")),
        ("/x.png", {"bytes": None, "path": "/x.png"}),
        ("/x.png", Path("/x.png")),
    ],
)
def test_equal_contents_in_other_clothes(value: Any, same: Any) -> None:
    assert content_key(value) == content_key(same) is not None


@pytest.mark.parametrize(
    "value", [None, "", "  ", b"", 3, 0.5, float("nan"), ["a"], np.zeros(2), {"bytes": None, "path": None}]
)
def test_what_has_no_content_to_compare(value: Any) -> None:
    assert content_key(value) is None


def test_text_and_bytes_are_told_apart() -> None:
    assert content_key("abc") != content_key(b"abc")


def test_a_hundred_thousand_rows_take_seconds() -> None:
    n = 100_000
    texts, files = [f"caption {i % 70_000}" for i in range(n)], [i.to_bytes(4, "big") * 100 for i in range(n)]
    began = time.perf_counter()
    _, shared = content_ids([texts, files], range(n))
    labels = label_ids([i % 10 for i in range(n)], range(n))
    assert time.perf_counter() - began < 8
    assert shared == 60_000
    assert len(np.unique(labels)) == 10


@pytest.mark.parametrize("several", [["a", "b"], ("a",), np.array([1, 2])])
def test_several_ids_of_a_row_are_refused(several: object) -> None:
    """As one label they would equal the same list alone."""
    with pytest.raises(
        InputError, match=r"ids='topics' of pair 'x': row 7 has several values, .* one per row\. Give ids= a"
    ):
        label_ids(["a", several], [4, 7], "ids='topics' of pair 'x'")


@few
@given(st.text(min_size=1))
def test_a_text_is_hashed_as_every_other_hash(text: str) -> None:
    assert content_key(f"a{text}b\ud800") == hash62("text", f"a{text}b\ud800")


def test_files_of_equal_bytes_are_joined_wherever_their_names_stand(tmp_path: Path) -> None:
    """Their keys come after all names' keys, and so not in the order of the rows."""
    for name, content in [("a", b"one"), ("b", b"two"), ("c", b"two"), ("d", b"one")]:
        (tmp_path / name).write_bytes(content)
    paths = [str(tmp_path / name) for name in "cadbx"]
    assert first_of_content([paths, ["t", "", None, "u", "t"]], 5, [Files(), None]).tolist() == [0, 1, 1, 0, 0]
