"""Captions in a WebDataset's .json are a column that recipes can be pointed to."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import media
import pytest

from multicl.data.rows import open_rows
from multicl.fit.columns import columns_of
from multicl.fit.plan import plan

COUNT = 12


def tar(file: Path, cells: list[Any]) -> Path:
    with tarfile.open(file, "w") as archive:
        for i, cell in enumerate(cells):
            for end, content in (("png", media.png(i)), ("json", json.dumps(cell).encode())):
                member = tarfile.TarInfo(f"{i:04d}.{end}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return file


@pytest.mark.parametrize("streaming", [False, True])
def test_keys_are_columns(tmp_path: Path, streaming: bool) -> None:
    cells = [{"caption": f"a picture {i}", "size": {"w": i}, "png": "x"} for i in range(COUNT)]
    del cells[3]["caption"]
    rows = open_rows(tar(tmp_path / "set.tar", cells), streaming=streaming)
    assert rows.names == ["png", "json", "__key__", "__url__", "caption", "size"]
    assert [row["caption"] for row in rows] == [cell.get("caption") for cell in cells]
    assert [(row["size"], row["json"]["size"]) for row in rows] == [(cell["size"], cell["size"]) for cell in cells]
    assert [row["png"]["bytes"] for row in rows] == [media.png(i) for i in range(COUNT)]


def test_fit_pairs_the_caption(tmp_path: Path) -> None:
    rows = open_rows(tar(tmp_path / "set.tar", [{"caption": f"picture {i}, seen"} for i in range(COUNT)]))
    assert {node.column for node in plan(rows, columns_of(rows), accelerator=False).nodes} == {"png", "caption"}


def test_numbered_captions_are_one_and_lists_stay_lists(tmp_path: Path) -> None:
    rows = open_rows(tar(tmp_path / "a.tar", [{"caption_1": "one", "caption_2": "two"}] * 3))
    assert rows.column("caption") == [["one", "two"]] * 3
    rows = open_rows(tar(tmp_path / "b.tar", [["a", "list"]] * 3))
    assert rows.names == ["png", "json", "__key__", "__url__"]
