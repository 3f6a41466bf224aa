"""Integers of CSV keep their digits."""

from __future__ import annotations

import gc
import gzip
import random
from pathlib import Path

import pytest

from multicl.data.rows import open_rows
from multicl.data.sources.integers import whole_columns
from multicl.data.sources.separators import AT_ONCE, EMPTY_ALONE

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # `datasets` leaves tables open
IDS = [2**53 + 1, None, -(2**63), 2**63 - 1, 7, None]


def write(path: Path, ids: list[object], sep: str = ",") -> Path:
    lines = [f"{'' if n is None else n}{sep}text {i}" for i, n in enumerate(ids)]
    path.write_text("\n".join([f"id{sep}text", *lines]) + "\n")
    return path


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("where", ["a.csv", "a.tsv", "semicolons.csv", "set/train.csv", "a.csv.gz"])
def test_beside_empty_cells_all_digits_stay(tmp_path: Path, where: str, streaming: bool) -> None:
    file = tmp_path / where.removesuffix(".gz")
    file.parent.mkdir(exist_ok=True)
    write(file, [*IDS], "\t" if file.suffix == ".tsv" else ";" if "semi" in where else ",")
    if where.endswith(".gz"):
        (tmp_path / where).write_bytes(gzip.compress(file.read_bytes()))
    rows = open_rows(file.parent if "/" in where else tmp_path / where, streaming=streaming)
    assert [row["id"] for row in rows] == IDS
    gc.collect()


def test_parts_without_any_number_do_not_matter(tmp_path: Path) -> None:
    g = random.Random(0)
    ids = [*([None] * AT_ONCE), *(g.randrange(2**62) for _ in range(AT_ONCE)), *([None] * 3)]
    longer = [2**60 + 1, *ids]  # where a long one is among the file's first
    assert open_rows(write(tmp_path / "a.csv", longer)).column("id") == longer
    gc.collect()


@pytest.mark.parametrize(
    "ids",
    [
        [1, None, 10**15 - 1],  # which floats hold
        [2**53 + 1, 2**62],  # nothing is missing, and pandas reads integers
        [2**53 + 1, None, "a"],
        [2**53 + 1, None, 0.5],
        [2**63, None, 1],  # beyond 64 bits
        ["0.1234567890123456789", None],
    ],
)
def test_other_columns_are_left_to_pandas(tmp_path: Path, ids: list[object]) -> None:
    assert whole_columns([write(tmp_path / "a.csv", ids)], EMPTY_ALONE) == {}


def test_what_cannot_be_read_is_left_to_say_so(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n9007199254740993,a,b,c\n")
    (tmp_path / "b.csv.gz").write_text("no archive")
    (tmp_path / "c.csv").write_bytes(b"id,text\n9007199254740993,\xff\n,\n")
    for file in tmp_path.iterdir():
        assert whole_columns([file], EMPTY_ALONE) == {}
