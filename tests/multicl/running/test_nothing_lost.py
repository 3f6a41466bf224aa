"""Runs that are killed, or asked to stop, at any moment: resumed, they are the unbroken ones bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from killed import said
from ranks import run_ranks
from safetensors.torch import load_file

CLOCK = {"rows_per_second", "data_wait"}


@pytest.fixture(scope="module", params=[(1, 6), (2, 3)], ids=["1 process", "2 processes"])
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, int, Path, str]:
    """Processes, kills, the folder of the runs whole, killed and stopped, and what was printed."""
    ranks, kills = request.param
    folder = tmp_path_factory.mktemp("runs")
    (printed,) = run_ranks(said, 1, str(folder), ranks, kills, 0, met=False)
    return ranks, kills, folder, printed


def metrics(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in CLOCK} for row in rows]


def same(whole: Path, other: Path) -> None:
    assert metrics(whole) == metrics(other)
    assert [p.name for p in sorted(other.rglob("step-*"))] == [p.name for p in sorted(whole.rglob("step-*"))]
    for weights in sorted(whole.rglob("*.safetensors")):
        mine, theirs = (load_file(run / weights.relative_to(whole)) for run in (whole, other))
        assert mine.keys() == theirs.keys()
        assert all(mine[name].equal(theirs[name]) for name in mine), weights
    assert not list(other.rglob(".step-*")), "what was torn is swept away"
    status, unbroken = (json.loads((run / "status.json").read_text()) for run in (other, whole))
    assert {**status, "seconds": 0} == {**unbroken, "seconds": 0}
    assert status["state"] == "finished"


def test_killed_at_random_moments(runs: tuple[int, int, Path, str]) -> None:
    _, kills, folder, out = runs
    assert out.count("killed at") == kills
    assert "resumed at step" in out
    same(folder / "whole", folder / "killed")


def test_a_signal_to_one_process_stops_all_with_a_code_of_their_own(runs: tuple[int, int, Path, str]) -> None:
    ranks, _, folder, out = runs
    assert f'stopped with {[75] * ranks} {{"state": "stopped"' in out
    assert f'"reason": "{"SIGTERM" if ranks == 1 else "another process"}"' in out
    same(folder / "whole", folder / "stopped")
