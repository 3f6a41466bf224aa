"""SimCSE's figures on several sets of scored pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import media
import pytest


def test_several_sets_are_measured_and_averaged(launched: Any, data: Path, tmp_path: Path) -> None:
    media.write(
        tmp_path / "more" / "test.parquet", [{**row, "part": "xyz"[i // 4]} for i, row in enumerate(media.scored())]
    )
    sets = ["--sts", str(data.parent / "sts"), str(tmp_path / "more")]
    result = launched("simcse", "--run", str(tmp_path / "run"), *sets).result
    for figures in (result, result["untrained"], result["baseline"]):
        assert figures["sts_sts"] == figures["sts_more"]  # the same pairs
        assert abs(figures["sts_average"] - figures["sts_sts"]) < 1e-5
        assert "sts_average_of_parts" in figures
    assert result["baseline"]["sts_average_of_parts"] != result["baseline"]["sts_average"]


def test_names_that_end_alike_are_refused(launched: Any, data: Path, tmp_path: Path) -> None:
    folder = str(data.parent / "sts")
    said = launched("simcse", "--run", str(tmp_path / "run"), "--sts", folder, folder)
    assert "several with different last parts" in said.refusal


def test_a_set_that_cannot_be_had_says_how_to_do_without(launched: Any, tmp_path: Path) -> None:
    said = launched("simcse", "--run", str(tmp_path / "run"), "--sts", str(tmp_path / "none.csv")).refusal
    assert said.startswith("--sts: no such file")
    assert said.rstrip().endswith("To leave out its figures: --sts none")


def test_a_dev_split_and_labelled_texts_are_measured_beside(launched: Any, tmp_path: Path) -> None:
    for split in ("test", "dev"):
        media.write(tmp_path / "sts" / f"{split}.parquet", media.scored())
    for split in ("train", "test"):
        rows = [{"text": f"{'red' if i % 2 else 'green'} {i}", "label": "ab"[i % 2]} for i in range(20)]
        media.write(tmp_path / "labelled" / f"{split}.parquet", rows)
    flags = ["--sts", str(tmp_path / "sts"), "--sts-dev", "validation", "--probes", str(tmp_path / "labelled")]
    flags += ["--train.evaluate-every", "2", "--train.best", "dev_spearman"]
    result = launched("simcse", "--run", str(tmp_path / "run"), *flags).result
    assert result["dev_spearman"] == result["sts_spearman"]  # the same pairs
    assert result["linear_labelled"] == 1  # the words tell
    assert "dev_spearman" not in result["baseline"]


@pytest.mark.parametrize("name", ["simcse", "scored_pairs"])
def test_scored_pairs_are_left_out_where_none_are_asked_for(launched: Any, name: str, tmp_path: Path) -> None:
    result = launched(name, "--run", str(tmp_path / "run"), "--sts", "none", "--sts-dev", "validation").result
    assert result["steps"] == 4
    assert not any("spearman" in figure for figure in {**result, **result["untrained"], **result["baseline"]})
