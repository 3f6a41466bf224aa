"""Rows that stand in a list within one JSON object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from multicl import Data, InputError
from multicl.rows import open_rows
from multicl.sources.json_lists import lists_in

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


def test_lines_are_lines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"data": [{"b": 1}]}\n')
    assert open_rows(tmp_path / "a.jsonl").names == ["data"]
    assert lists_in(tmp_path / "gone.json") == []
    (tmp_path / "b.json").write_text('\n\n{"data": [{"b": 1}]}\n\n')
    assert lists_in(tmp_path / "b.json") == ["data"]
