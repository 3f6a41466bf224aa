"""Clotho's five captions, each in a column of its own, are one column of lists, of which training draws one."""

from __future__ import annotations

import gc
from pathlib import Path

import media
import pytest
import torch

from multicl import Pair
from multicl.data.reader import Reader
from multicl.data.rows import open_rows
from multicl.evaluation.crossing import side
from multicl.fit.columns import columns_of
from multicl.fit.plan import plan
from multicl.modalities.text import Text

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # `datasets` leaves tables open
ROWS = 12


def table(file: Path, names: str = "caption_1,caption_2,caption_3") -> Path:
    lines = [f"{i}.png,one {i},two {i}," + (f"six {i}" if i != 3 else "") for i in range(ROWS)]
    file.write_text("\n".join([f"file_name,{names}", *lines]) + "\n")
    return file


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    "names", ["caption_1,caption_2,caption_3", "caption1,caption2,caption3", "Caption 0,Caption 1,Caption 2"]
)
def test_they_are_together_and_by_themselves(tmp_path: Path, names: str, streaming: bool) -> None:
    rows = open_rows(table(tmp_path / "a.csv", names), streaming=streaming)
    assert rows.names == ["file_name", *names.split(","), "caption"]
    found = list(rows)
    assert found[3]["caption"] == ["one 3", "two 3"]
    assert found[4]["caption"] == [found[4][name] for name in names.split(",")] == ["one 4", "two 4", "six 4"]
    gc.collect()


@pytest.mark.parametrize(
    "names", ["caption_1,caption,other", "caption_1,sentence1,sentence2", "caption_a,caption_b,caption_c"]
)
def test_other_columns_stay_as_they_are(tmp_path: Path, names: str) -> None:
    """Two sentences are a pair."""
    assert open_rows(table(tmp_path / "a.csv", names)).names == ["file_name", *names.split(",")]


def test_a_folder_of_pictures_stays_one(tmp_path: Path) -> None:
    table(tmp_path / "metadata.csv")
    for i in range(ROWS):
        (tmp_path / f"{i}.png").write_bytes(media.png(i))
    rows = open_rows(tmp_path)
    assert rows.data.info.builder_name == "imagefolder"
    made = plan(rows, columns_of(rows), accelerator=False)
    assert {node.column for node in made.nodes} == {"image", "caption"}
    part = rows.take([5, 3])
    assert part.column("caption") == [["one 5", "two 5", "six 5"], ["one 3", "two 3"]]


def test_training_draws_one_and_each_is_searched(tmp_path: Path) -> None:
    rows = open_rows(table(tmp_path / "a.csv"))
    text = Text("words", column="caption")
    reader = Reader(rows, {"text": text}, [Pair("text", "text")])
    drawn = [reader.slice([0], epoch).batches["text"] for epoch in range(20)]
    assert len({tuple(batch.get("ids").flatten().tolist()) for batch in drawn if batch is not None}) == 3

    every, whose = side(lambda node, cells, skipped: torch.ones(len(cells), 2), "text", text, rows.column("caption"))
    assert len(every) == len(whose) == 3 * ROWS - 1
