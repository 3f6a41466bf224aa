from __future__ import annotations

from pathlib import Path
from typing import Any

import found
import media
import pytest

from multicl.commands.report_space import show
from multicl.commands.subject import Subject
from multicl.data.rows import open_rows

pytest.importorskip("plotly")


def test_texts_that_begin_alike_are_different_things() -> None:
    prefix = (
        "a photo, taken on a sunny afternoon with a small camera that hung around the neck of somebody, which shows "
    )
    data: list[dict[str, Any]] = media.rows(24)
    for i, row in enumerate(data):
        row["text"] = f"{prefix * 2}thing {i % 12}"
    for row in data:
        row.pop("label", None)
    shown = show(Subject(found.model(), open_rows([{"image": r["image"], "text": r["text"]} for r in data])))
    assert shown.failures
    for search in shown.searches:
        assert sum(search.right) <= 2  # each text is said of two pictures


@pytest.mark.parametrize(("node", "content"), [("audio", media.wav), ("image", media.png)])
def test_copies_of_a_file_are_one_thing(node: str, content: Any, tmp_path: Path) -> None:
    data = []
    for i in range(4):
        (tmp_path / f"{i}").write_bytes(content(i % 2))
        data.append({"text": f"number {i}", node: str(tmp_path / f"{i}")})
    shown = show(Subject(found.model(), open_rows(data)))
    assert shown.searches
    for search in shown.searches:
        assert sum(search.right) == 2
