"""A table of lists of captions that went through CSV has them back: Flickr30k's is such a one."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import pandas as pd
import pytest

from multicl.data.rows import open_rows
from multicl.data.sources.listed import are_lists, listed

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # `datasets` leaves tables open
TEXTS = [["A dog's ball, red.", 'he said "no"'], ["one"], None, ["a [b] c", "ü"]]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("written", ["python", "json"])
def test_lists_come_back(tmp_path: Path, written: str, streaming: bool) -> None:
    cells = [cell and (json.dumps(cell) if written == "json" else cell) for cell in TEXTS]
    frame = pd.DataFrame({"raw": cells, "ids": [[i] for i in range(4)], "n": range(4), "text": ["[laughs]"] * 4})
    frame.to_csv(tmp_path / "a.csv", index=False)
    rows = list(open_rows(tmp_path / "a.csv", streaming=streaming))
    assert [row["raw"] for row in rows] == TEXTS
    assert rows[1] == {"raw": ["one"], "ids": "[1]", "n": 1, "text": "[laughs]"}
    gc.collect()


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["['a']", ""], True),
        (["['a']", "[]"], True),
        (["['a']", "a text"], False),
        (["", ""], False),
        (["['a' 'b']"], False),  # numpy's, of which Python would make one text
        (["[1, 2]"], False),
        (["[]"], False),
        (["[a, b]"], False),
        (["[f('a')]"], False),
    ],
)
def test_which_cells_are_lists(cells: list[str], expected: bool) -> None:
    assert are_lists(cells) == expected


def test_one_that_is_none_is_the_only_text() -> None:
    assert [listed(cell) for cell in ("['a', 'b']", "a text", "[]", "")] == [["a", "b"], ["a text"], None, None]
