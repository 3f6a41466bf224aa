"""Rows that stand in a list within one JSON object."""

from __future__ import annotations

import bz2
import gc
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from multicl import Data, InputError
from multicl.data.rows import open_rows
from multicl.data.sources.json_lists import lists_in

ROWS: list[dict[str, Any]] = [
    {"text": "007", "n": 1, "nested": {"a": [1, 2]}},
    {"text": "NA", "n": None, "more": "of the second row alone"},
    {"text": "über", "n": 3},
]
FILLED = [{"text": None, "n": None, "nested": None, "more": None} | row for row in ROWS]


def write(path: Path, content: Any, indent: int | None = None, start: str = "") -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(start + json.dumps(content, indent=indent, ensure_ascii=False), encoding="utf-8")
    return path


def rows_of(source: Path, **how: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in open_rows(source, **how)]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("indent", [None, 2])
def test_the_only_list_is_the_rows(tmp_path: Path, indent: int | None, start: str, streaming: bool) -> None:
    file = write(tmp_path / "a.json", {"version": "1", "tags": ["x"], "data": ROWS}, indent, start)
    assert rows_of(file, streaming=streaming) == FILLED
    assert open_rows(file).label == f"{file} (data)"
    assert rows_of(file, split="train[1:]") == rows_of(file, split="data[1:]") == FILLED[1:]
    with pytest.raises(InputError, match="it has no split 'test'"):
        open_rows(file, split="test")


def test_a_list_may_have_any_name(tmp_path: Path) -> None:
    assert rows_of(write(tmp_path / "a.json", {"t": ROWS}), split="train[1:]+train[:1]") == [*FILLED[1:], FILLED[0]]


def test_cocos_pictures_have_their_captions(tmp_path: Path) -> None:
    pictures = [{"id": 10 - i, "file_name": f"{i:012}.jpg", "height": 5} for i in range(3)]
    captions = [{"id": i, "image_id": 10 - i % 2, "caption": f"caption {i}"} for i in range(5)]
    coco = {"info": {}, "licenses": [{"id": 1}], "images": pictures, "annotations": captions}
    file = write(tmp_path / "annotations" / "captions.json", coco)
    first = {"image": "000000000000.jpg", "caption": ["caption 0", "caption 2", "caption 4"], "image_id": 10}
    second = {"image": "000000000001.jpg", "caption": ["caption 1", "caption 3"], "image_id": 9}
    assert rows_of(file) == [first, second]  # the third has none
    assert rows_of(file, split="train[1:]") == [second]
    assert rows_of(file, split="annotations") == captions
    (tmp_path / "train2017").mkdir()
    for name in (first["image"], second["image"]):
        (tmp_path / "train2017" / str(name)).write_bytes(b"")
    assert open_rows(file).base == tmp_path / "train2017"
    boxes = [{"id": 1, "image_id": 10, "bbox": [0, 0, 1, 1]}]
    with pytest.raises(InputError, match="several lists of rows, and none is called 'train'"):
        open_rows(write(tmp_path / "instances.json", coco | {"annotations": boxes}))


def test_lists_that_are_called_as_splits_are_splits(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", {"train": ROWS, "test": ROWS[:1], "info": {}}, 1)
    data = Data(path=str(file))
    assert (len(data.open()), len(data.open(data.test))) == (3, 1)
    assert rows_of(file, split="train[:2]") == FILLED[:2]
    with pytest.raises(InputError, match=r"several lists of rows, and none is called 'dev': name one of \['train', 't"):
        open_rows(file, split="dev")
    other = write(tmp_path / "b.json", {"images": ROWS, "annotations": ROWS})
    with pytest.raises(InputError, match=r"none is called 'train'.*--data.split images"):
        open_rows(other)
    assert rows_of(other, split="annotations") == FILLED


def test_a_folder_of_such_files_one_to_a_split(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 2)):
        write(tmp_path / "set" / f"{split}.json", {"data": ROWS[:count]})
    assert rows_of(tmp_path / "set") == FILLED
    assert [row["text"] for row in rows_of(tmp_path / "set", split="test")] == ["007", "NA"]


def test_of_many_files_each_is_a_row(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / "set" / f"{i}.json", {"id": i, "boxes": ROWS})
    assert open_rows(tmp_path / "set").column("id") == [0, 1, 2]
    assert open_rows(tmp_path / "set" / "*.json").column("id") == [0, 1, 2]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "{",
        "{\n",
        "[]",
        '[{"a": 1}]',
        '[\n{"a": [{"b": 1}]}]',
        '{"a": [{"b": 1}]}\n{"a": [{"b": 1}]}\n',  # an object a line
        '{"a": [1, 2], "b": ["x"], "c": [], "d": {"e": [{}]}}',
        '{"a": [{"b": 1}, 2]}',
        "7",
    ],
)
def test_what_is_no_object_of_lists(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert lists_in(tmp_path / "a.json") == []


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("index", [False, True])
def test_columns_are_a_table(tmp_path: Path, indent: int | None, index: bool, streaming: bool) -> None:
    columns: dict[str, Any] = {"text": ["007", "NA", "über"], "n": [1, None, 3], "boxes": [[1, 2], [], None]}
    if index:  # as pandas writes a table of which the second row was taken out
        columns = {name: dict(zip("023", column, strict=True)) for name, column in columns.items()}
    file = write(tmp_path / "a.json", columns, indent)
    rows = [
        {"text": "007", "n": 1, "boxes": [1, 2]},
        {"text": "NA", "n": None, "boxes": []},
        {"text": "über", "n": 3, "boxes": None},
    ]
    assert rows_of(file, streaming=streaming) == rows
    assert rows_of(file, split="train[1:]") == rows[1:]
    with pytest.raises(InputError, match="it has no split 'test'"):
        open_rows(file, split="test")
    (tmp_path / "set").mkdir()
    file.rename(tmp_path / "set" / "train.json")
    assert rows_of(tmp_path / "set") == rows


def test_a_column_may_hold_objects(tmp_path: Path) -> None:
    columns = {"image": ["a.png", "b.png", "c.png"], "about": [{"n": 1}, {"n": 2}, {"n": None}]}
    expected = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    assert rows_of(write(tmp_path / "a.json", columns)) == expected
    longer = {"data": columns["about"], "tags": ["x", "y"]}  # no columns: the list of objects is the rows
    assert rows_of(write(tmp_path / "b.json", longer)) == columns["about"]


def test_columns_of_unlike_lengths_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", {"text": ["a", "b", "c"], "image": ["x", "y"]})
    with pytest.raises(InputError, match=r"their lengths differ: \{'text': 3, 'image': 2\}. If it is one row, wrap it"):
        open_rows(file)


@pytest.mark.parametrize("content", [{"data": ROWS}, {"t": ["a", "b"], "n": [1, 2]}, ROWS])
@pytest.mark.parametrize(("end", "packed"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".XZ", lzma.compress)])
def test_packed_files_are_read(tmp_path: Path, end: str, packed: Callable[[bytes], bytes], content: Any) -> None:
    plain = write(tmp_path / "a.json", content)
    file = tmp_path / f"b.json{end.lower()}"
    file.write_bytes(packed(plain.read_bytes()))
    assert rows_of(file) == rows_of(plain)
    assert len(rows_of(file)) > 1
    (tmp_path / f"c.json{end}").write_bytes(packed(plain.read_bytes())[:20])
    assert lists_in(tmp_path / f"c.json{end}") == []


@pytest.mark.parametrize(("end", "text"), [(".jsonl", '{"a": "x"}\n{"a": "y"}\n'), (".csv", "a\nx\ny\n")])
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # `datasets` leaves tables open
def test_packed_lines_are_read(tmp_path: Path, end: str, text: str) -> None:
    (tmp_path / f"a{end}.gz").write_bytes(gzip.compress(text.encode()))
    assert open_rows(tmp_path / f"a{end}.gz").column("a") == ["x", "y"]
    gc.collect()


@pytest.mark.parametrize("key", ["data", None])
def test_integers_beside_nulls_have_all_their_digits(tmp_path: Path, key: str | None) -> None:
    ids = [2**53 + 1, None, 2**63 - 1]
    file = write(tmp_path / "a.json", {key: [{"id": n} for n in ids]} if key else {"id": ids, "t": ["a", "b", "c"]})
    assert open_rows(file).column("id") == ids


def test_what_comes_late_is_read(tmp_path: Path) -> None:
    """Beyond what `datasets` reads of lines at once, 10 MB."""
    rows: list[dict[str, Any]] = [{"text": "x" * 1000, "n": i, "none": None} for i in range(12_000)]
    rows[-1] |= {"n": 0.5, "none": "a", "more": "b"}
    found = open_rows(write(tmp_path / "a.json", {"data": rows}))
    assert found.column("n")[-2:] == [11_998, 0.5]
    assert (found.column("none")[-1], found.column("more")[-1]) == ("a", "b")


def test_a_file_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    assert len(rows_of(write(tmp_path / "a.json", {"data": ROWS}))) == 3
    assert len(rows_of(write(tmp_path / "a.json", {"data": ROWS[:1]}))) == 1


def test_no_room_for_the_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", write(tmp_path / "file", ""))
    with pytest.raises(InputError, match=r"cannot be written.*or give HF_DATASETS_CACHE another place"):
        open_rows(write(tmp_path / "a.json", {"data": ROWS}))


def test_lines_are_lines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"data": [{"b": 1}]}\n')
    assert open_rows(tmp_path / "a.jsonl").names == ["data"]
    assert lists_in(tmp_path / "gone.json") == []
    (tmp_path / "b.json").write_text('\n\n{"data": [{"b": 1}]}\n\n')
    assert lists_in(tmp_path / "b.json") == ["data"]
