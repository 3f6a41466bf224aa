from __future__ import annotations

import sys
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # at the end: nothing of the tests' own is hidden

from seeds import KINDS, run, summary  # noqa: E402


def test_seeds_have_a_mean_and_a_deviation() -> None:
    def of(value: float) -> dict[str, Any]:
        return {
            "recipe": "simclr",
            "steps": 6,
            "skipped": 0,
            "knn_200": value,
            "untrained": {"knn_200": value / 2},
            "baseline": {"knn_200": 0.1},
            "seconds": 3.0,
        }

    (moco, simclr) = summary({("simclr", 0): of(0.5), ("simclr", 1): of(0.6), ("moco", 0): of(0.4)})[::-1]
    assert (simclr["recipe"], moco["recipe"]) == ("simclr", "moco")
    assert [simclr["trained"], simclr["untrained"], moco["raw pixels"]] == pytest.approx([55.0, 27.5, 10.0])
    assert simclr["deviation"] == pytest.approx(stdev([50, 60]))
    assert (moco["deviation"], moco["seeds"]) == ("", 1)


def test_every_kind_is_a_budget_of_a_recipe_that_takes_its_flags(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []
    monkeypatch.setenv("MULTICL_DATA", str(tmp_path))

    def called(command: list[str], **_: Any) -> None:
        asked.append(command)
        raise KeyboardInterrupt

    monkeypatch.setattr("subprocess.run", called)
    for kind in KINDS:
        with pytest.raises(KeyboardInterrupt):
            run(kind, 7, 1)
    from multicl.launcher import parse, recipe_class

    for command in asked:
        settings = parse(recipe_class(command[1]), command[4:])
        assert settings.train.seed == 7
