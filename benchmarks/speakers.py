"""How well does a recipe on sounds do on a speaker that it has not heard?

    MULTICL_DATA=... python benchmarks/speakers.py [--recipe simclr_audio] [--groups lucas theo] \\
        -- --audio.depth 0 --data.batches one --train.batch-size 75 --train.epochs 10 --train.lr 3e-4

Each speaker of spoken_digits is left out in turn. The recipe trains on the other five without labels; then the digits
of the speaker left out are classified from the sounds of the other five, by 5 nearest neighbours (cosine) and by
logistic regression. Beside each figure are the recipe's own baseline, log-mels of what its encoder hears, and the
untrained encoder on the same split; the worst speaker comes first. Flags after -- are the recipe's. For plain log-mels
of whole clips:
-- --audio.trim-db None --audio.mels 64 --data.batches one --train.batch-size 75 --train.steps 1
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from common import data_folder, finish, launched

RATES = {"cmc_audio": ["--wave.rate", "8000", "--mel.rate", "8000"]}


def measure(recipe: str, folder: Path, group: str, left_out: str, flags: list[str]) -> list[dict[str, Any]]:
    """Train once; a row for each figure, in %."""
    data = ["--data.path", str(folder), "--data.group", group, "--data.left-out", left_out]
    rate = RATES.get(recipe, ["--audio.rate", "8000"])
    result = launched(recipe, [*data, *rate, *flags], CUDA_VISIBLE_DEVICES="")
    rows = []
    for name, trained in result.items():
        if name not in result["untrained"] or not name.startswith(("knn_", "linear_")) or "_worst" in name:
            continue
        raw = result["baseline"].get(name)
        rows.append({
            group: left_out, "figure": name.replace(f"_{left_out}", ""),
            "raw log-mels": None if raw is None else 100 * raw, "untrained": 100 * result["untrained"][name],
            "trained": 100 * trained, "seconds": result["seconds"],
        })  # fmt: skip
    return rows


def summary(rows: list[dict[str, Any]], group: str) -> list[dict[str, Any]]:
    """Rows by figure, the worst group first, then the mean over groups."""
    found = []
    for figure in dict.fromkeys(row["figure"] for row in rows):
        each = sorted((row for row in rows if row["figure"] == figure), key=lambda row: float(row["trained"]))
        mean: dict[str, Any] = {group: "mean", "figure": figure}
        for name in ("raw log-mels", "untrained", "trained", "seconds"):
            values = [row[name] for row in each if row[name] is not None]
            mean[name] = statistics.mean(values) if values else None
        found += [*each, mean]
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="simclr_audio")
    parser.add_argument("--data", type=Path, default=None, help="default: spoken_digits of MULTICL_DATA")
    parser.add_argument("--group", default="speaker")
    parser.add_argument("--groups", nargs="*", help="these alone; default: all")
    parser.add_argument("--name", help="of the file in results/; default: speakers-RECIPE")
    parser.add_argument("flags", nargs="*", help="the recipe's, after --")
    given = parser.parse_args()
    where = given.data or data_folder() / "spoken_digits"
    names = given.groups or sorted(set(pq.read_table(where / "train.parquet")[given.group].to_pylist()))
    lines: list[dict[str, Any]] = []
    for speaker in names:
        lines += measure(given.recipe, where, given.group, speaker, given.flags)
        name = given.name or f"speakers-{given.recipe}"
        finish(name, summary(lines, given.group), flags=" ".join(given.flags))
