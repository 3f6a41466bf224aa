"""Pictures that cannot be read as they are, are told, and neither trained on as texts nor left out without a word."""

from __future__ import annotations

import base64
from typing import Any

import media
import pytest

from multicl import InputError
from multicl.data.rows import open_rows
from multicl.fit.columns import columns_of
from multicl.fit.odd import odd
from multicl.fit.plan import Plan, plan

PICTURES = [media.png(i) for i in range(24)]


def planned(cells: list[Any], **more: list[Any]) -> Plan:
    columns = {"it": cells, "caption": [f"a picture of thing {i}" for i in range(24)], **more}
    data = open_rows([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])
    return plan(data, columns_of(data), accelerator=False)


ODD: dict[str, tuple[list[Any], str]] = {
    "links": ([f"https://host.org/{i}.jpg?size=2" for i in range(24)], r"links, such as 'https://host.*Download"),
    "base64": ([base64.b64encode(p).decode() for p in PICTURES], r"base64, such as 'iVBOR.{75}\.\.\.'. Decode"),
    "data": (
        [f"data:image/png;base64,{base64.b64encode(p).decode()}" for p in PICTURES],
        "base64, such as 'data:image",
    ),
    "several": ([[p, p] for p in PICTURES], "several files in a cell. Give each file its own row"),
    "several paths": ([[None, f"{i}.png"] for i in range(24)], "several files in a cell"),
    "paths of datasets": (
        [{"path": f"gone/{i}.png", "bytes": None} for i in range(24)],
        r"paths of .* 'gone/0.png'. Correct",
    ),
    "paths of Windows": (
        [rf"pics\{i}.png" for i in range(24)],
        r"paths of missing files, .* Correct the paths, with / instead of ",
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_they_are_refused_where_there_are_no_others(kind: str) -> None:
    cells, told = ODD[kind]
    with pytest.raises(InputError, match=rf"column 'it' holds {told}.*or remove the column"):
        planned(cells)
    made = planned(cells, picture=PICTURES)
    assert {node.column for node in made.nodes} == {"picture", "caption"}
    assert any(line.startswith("column it: left alone (") for line in made.why)


def test_links_to_pages_and_tables_in_cells_are_left_alone() -> None:
    for cells, told in (
        ([f"https://host.org/page/{i}" for i in range(24)], "links, such as 'https://host.org/page/0'"),
        (
            [{"image": p, "w": 3} for p in PICTURES],
            "a table in each cell ('image', 'w'), which needs columns of its own",
        ),
    ):
        made = planned(cells)
        assert [node.column for node in made.nodes] == ["caption"]
        assert f"column it: left alone ({told})" in made.why


@pytest.mark.parametrize(
    "cells",
    [
        [f"see https://host.org/{i}.jpg" for i in range(24)],
        [["a text", f"another {i}"] for i in range(24)],
        [f"{'word' * 20}{i:04}" for i in range(24)],
        [f"data: {i}, and more" for i in range(24)],
        [base64.b64encode(f"a text that somebody put into base64, {i}".encode()).decode() for i in range(24)],
    ],
)
def test_texts_are_texts(cells: list[Any]) -> None:
    assert {node.column for node in planned(cells).nodes} == {"it", "caption"}


def test_files_that_cannot_be_read_are_neither_paths_nor_tables() -> None:
    made = planned([{"path": f"{i}.png", "bytes": b"torn"} for i in range(24)])
    assert "column it: left alone (no adapter reads it)" in made.why


def test_pictures_are_pictures_in_any_form_that_is_read() -> None:
    for cells in (PICTURES, [{"bytes": p, "path": "x.png"} for p in PICTURES], [[[0, i], [9, 99]] for i in range(24)]):
        assert {node.kind: node.column for node in planned(cells).nodes} == {"image": "it", "text": "caption"}


@pytest.mark.parametrize("between", ["#0\t", ",", ";"])
def test_lines_that_begin_with_names_of_files_are_told(between: str) -> None:
    """Flickr8k.token.txt has them."""
    cells = [f"{i}.jpg{between}a dog runs" for i in range(9)]
    found = odd(cells, cells, lambda media: False)
    assert found is not None
    assert found.what.startswith("lines that begin with file names, such as '0.jpg")
    assert odd([f"a dog, {i}.jpg runs" for i in range(9)], cells, lambda media: False) is None
