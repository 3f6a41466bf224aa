from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # at the end: nothing of the tests' own is hidden


def test_a_step_is_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["step.py", "--measure", "16", "4"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(BENCHMARKS / "step.py"), run_name="__main__")
    assert left.value.code is None
    measured = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert measured["seconds"] > 0
    assert measured["embeddings MB"] == 4 * 16 * 128 * 4 / 2**20
