from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from multicl.data.rows import open_rows
from multicl.search.contents import plain_columns, row_content


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([1, 2, None], pa.int64()),
        ([1.0, math.nan, 2], pa.int64()),
        ([1.0, 2.5], pa.float64()),
        ([1.0, math.inf], pa.float64()),
        ([1.0, 1e20], pa.float64()),
        (["a", math.nan, None], pa.string()),
        ([True, None], pa.bool_()),
        ([True, 1], None),
        ([None, math.nan], None),
        ([[1], [2]], None),
    ],
)
def test_kinds_of_plain_columns(cells: list[Any], kind: pa.DataType | None) -> None:
    found = plain_columns(open_rows([{"text": "x", "c": cell} for cell in cells]))
    assert found == {"text": pa.string()} | ({} if kind is None else {"c": kind})


def test_a_whole_number_is_the_same_content_as_a_float() -> None:
    def content(cell: Any) -> int:
        return row_content({"c": cell}, {"c": False}, None)

    assert content(1) == content(1.0) != content(1.5)
    assert content(math.nan) == content(None) != content(math.inf)


def test_pictures_of_other_palettes_are_no_copies() -> None:
    def content(*color: int, **info: Any) -> int:
        picture = Image.new("P", (4, 4), 0)
        picture.putpalette(color)
        picture.info |= info
        return row_content({"image": picture}, {"image": True}, None)

    assert len({content(200, 0, 0), content(0, 0, 200), content(200, 0, 0, transparency=0)}) == 3
    assert content(200, 0, 0) == content(200, 0, 0)
