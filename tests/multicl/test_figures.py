from __future__ import annotations

import math

from multicl.figures import figures_table, to_json


def test_figures_stand_side_by_side() -> None:
    found = figures_table(
        {
            "baseline": {"image_to_text": 0.5},
            "untrained": {"image_to_text": 1 / 3, "a_much_longer_name": -0.25},
            "empty": {},
            "after a long training": {"image_to_text": 1.0, "a_much_longer_name": 12345.678, "rows": 200},
        }
    )
    assert found.splitlines() == [
        "                     baseline  untrained  after a long training",
        "image_to_text          0.5000     0.3333                 1.0000",
        "a_much_longer_name          -    -0.2500             12345.6780",
        "rows                        -          -                    200",
    ]
    assert figures_table({"trained": {}}) == ""


def test_json_holds_no_figure_that_is_not_finite() -> None:
    assert to_json({"a": math.nan, "b": [math.inf, 0.1], "c": (1, "x", None, True)}) == (
        '{"a": null, "b": [null, 0.1], "c": [1, "x", null, true]}'
    )
