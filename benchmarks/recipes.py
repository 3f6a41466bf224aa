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

from common import RESULTS, data_folder, finish

ROOT = Path(__file__).parent.parent
CIFAR = "--train.batch-size 256 --train.steps 600 --train.lr 1e-3 --bank 20000"
BUDGETS = {
    "codes": "",
    "simclr": f"--data.path DATA/cifar10 --image.encoder small --image.stem default {CIFAR}",
    "moco": f"--data.path DATA/cifar10 --image.encoder small --image.stem default {CIFAR}",
    "supcon": f"--data.path DATA/cifar10 --image.encoder small --image.stem default {CIFAR}",
    "swav": "--data.path DATA/cifar10 --image.encoder small --image.stem default --train.batch-size 256 "
    "--train.steps 300 --objective.prototypes 300 --objective.frozen-steps 30 --local-draws 2 --bank 20000",
    "semi": "--data.path DATA/cifar10 --data.split train[:10000] --data.labels 0.1 --image.encoder small "
    "--image.stem default --train.batch-size 256 --train.steps 120",
    "instdisc": f"--data.path DATA/cifar10 --image.encoder small --image.stem default --optim.name adamw {CIFAR}",
    "cmc": f"--data.path DATA/cifar10 --image.encoder small --image.stem default {CIFAR}",
    "cmc+nce": "--data.path DATA/cifar10 --data.split train[:10000] --image.encoder small --image.stem default "
    "--train.batch-size 256 --train.steps 390 --train.lr 1e-4 --bank 10000 --nce --head.layers 2 --head.norm batch "
    "--head.centred --instances.negatives 4096",
    "cross_view": "--data.path DATA/emoji --data.columns a google b twitter --train.batch-size 254 --train.epochs 110 "
    "--image.size 48 --image.fields 4 --image.crop-pct 0.9",
    "simclr_audio": "--data.path DATA/spoken_digits --audio.rate 8000 --data.group speaker --data.batches one "
    "--train.batch-size 75 --train.epochs 10",
    "cola": "--data.path DATA/spoken_digits --audio.rate 8000 --audio.seconds 0.3 --data.group speaker "
    "--train.epochs 20",
    "cmc_audio": "--data.path DATA/spoken_digits --wave.rate 8000 --mel.rate 8000 --data.group speaker "
    "--train.epochs 20",
    "simcse": "--data.path DATA/wordnet --data.columns text definition --sts DATA/stsb --text.encoder words "
    "--text.pooling mean --head.layers 0 --train.batch-size 256 --train.steps 1000 --train.lr 1e-3",
    "clip": "--data.path DATA/emoji --data.columns image google --train.epochs 60 --beside.unseen twitter",
    "clip+images": "--data.path DATA/emoji --data.columns image google --train.epochs 60 --beside.unseen twitter "
    "--images 0.5",
    "siglip": "--data.path DATA/emoji --data.columns image google --train.epochs 60",
    "clap": "--data.path DATA/prompts --audio.rate 8000",
    "pairs": "--data.path DATA/wordnet --data.columns query term document definition --data.split train[:10000] "
    "--train.steps 400 --mine.every 100 --mine.start 100",
}


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
