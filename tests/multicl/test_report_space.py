from __future__ import annotations

from typing import Any

import found
import media
import pytest

from multicl.report_space import show
from multicl.rows import open_rows
from multicl.subject import Subject

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
