"""What does each recipe reach in a few minutes on a laptop's CPU?

    MULTICL_DATA=... python benchmarks/recipes.py [NAME ...]

Held-out figures before and after training, beside raw inputs where that makes sense. Encoders are small and budgets
short; the recipes' own defaults are the papers', for a GPU. Rows of recipes that are not named are kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from budgets import BUDGETS
from common import RESULTS, ROOT, data_folder, finish, launched, machine


def measure(name: str) -> list[dict[str, Any]]:
    """Launch a recipe, or a variant of it (NAME+VARIANT), with its budget; a row for each figure."""
    flags = BUDGETS[name].replace("DATA", str(data_folder())).split()
    recipe = name.partition("+")[0]
    print(f"python recipes/{recipe}.py {BUDGETS[name]}", file=sys.stderr, flush=True)
    result = launched(recipe, flags, CUDA_VISIBLE_DEVICES="")
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(BUDGETS)}")
    names = parser.parse_args().names or list(BUDGETS)
    if unknown := set(names) - set(BUDGETS):
        parser.error(f"no budget is named {', '.join(sorted(unknown))}; there are {', '.join(BUDGETS)}")
    before = RESULTS / "recipes.json"
    measured: dict[str, list[dict[str, Any]]] = {}
    for wanted in names:
        measured[wanted] = measure(wanted)
        kept = json.loads(before.read_text())["rows"] if before.exists() else []  # another run may have added some
        every = [r for name in BUDGETS for r in measured.get(name) or [k for k in kept if k["recipe"] == name]]
        finish("recipes", every)  # after each, so that an interrupted run keeps what it has
