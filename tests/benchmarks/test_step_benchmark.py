from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "step.py"


def test_a_step_is_measured() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--measure", "16", "4"], capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["seconds"] > 0
    assert measured["embeddings MB"] == 4 * 16 * 128 * 4 / 2**20
