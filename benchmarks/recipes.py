"""What does each recipe reach in a few minutes on a laptop's CPU?

    MULTICL_DATA=... python benchmarks/recipes.py [NAME ...]

Held-out figures before and after training, beside raw inputs where that makes sense. Small encoders, short budgets: the
recipes' own defaults are the papers', for a GPU. Rows of recipes that are not named stay as they were measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from budgets import BUDGETS
from common import RESULTS, data_folder, finish, machine

ROOT = Path(__file__).parent.parent


def measure(name: str) -> list[dict[str, Any]]:
    """Launch a recipe as its header says, or otherwise (NAME+HOW); a row a figure."""
    flags = BUDGETS[name].replace("DATA", str(data_folder())).split()
    recipe = ROOT / "recipes" / f"{name.partition('+')[0]}.py"
    print(f"python recipes/{recipe.name} {BUDGETS[name]}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(recipe), "--run", f"{folder}/run", *flags]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
        result = json.loads((Path(folder) / "run" / "result.json").read_text())
    ask = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(ask, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
    return [
        {
            "recipe": name,
            "figure": figure,
            "raw input": result["baseline"].get(figure, ""),
            "untrained": untrained,
            "trained": result[figure],
            "steps": result["steps"],
            "seconds": result["seconds"],
            "flags": BUDGETS[name],
            "commit": commit,
            "cpu": machine()["cpu"],
        }
        for figure, untrained in result["untrained"].items()
    ]


if __name__ == "__main__":
    before = RESULTS / "recipes.json"
    measured: dict[str, list[dict[str, Any]]] = {}
    for wanted in sys.argv[1:] or list(BUDGETS):
        measured[wanted] = measure(wanted)
        kept = json.loads(before.read_text())["rows"] if before.exists() else []  # another run may have added some
        every = [r for name in BUDGETS for r in measured.get(name) or [k for k in kept if k["recipe"] == name]]
        finish("recipes", every)  # after each, so that a run that is broken off leaves what it has
