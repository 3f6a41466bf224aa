from __future__ import annotations

import sys
from pathlib import Path

import media

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # at the end: nothing of the tests' own is hidden

from speakers import measure, summary  # noqa: E402


def test_a_group_is_left_out_and_the_worst_comes_first(tmp_path: Path) -> None:
    rows = [{**row, "speaker": "ab"[i % 2], "label": i // 2 % 4} for i, row in enumerate(media.rows(32))]
    media.write(tmp_path / "train.parquet", rows)
    flags = ["--train.steps", "2", "--train.batch-size", "8"]
    found = measure("simclr_audio", tmp_path, "speaker", "a", flags)
    found += [{**row, "speaker": "b", "trained": row["trained"] / 2} for row in found]  # each is a launch of its own
    assert [(row["speaker"], row["figure"]) for row in found] == [
        (name, figure) for name in "ab" for figure in ("knn_5", "linear")
    ]
    table = summary(found, "speaker")
    assert [row["figure"] for row in table] == ["knn_5"] * 3 + ["linear"] * 3
    assert [row["speaker"] for row in table] == ["b", "a", "mean"] * 2
    assert table[2]["trained"] == (table[0]["trained"] + table[1]["trained"]) / 2
