"""How much do the figures of recipes on pictures vary between seeds?

    MULTICL_DATA=... python benchmarks/seeds.py [--recipes simclr moco] [--seeds 0 1 2] [--at-once 8]

Nearest neighbours and a linear probe on CIFAR-10's test pictures: mean and standard deviation over seeds, beside raw
pixels and the untrained encoder (whose weights depend on the seed, too). Each run is one process, on a GPU if there is
one, with the 600 steps of budgets.py.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from budgets import BUDGETS
from common import RESULTS, data_folder, finish, launched

from multicl.repeats import averaged

KINDS = ("simclr", "moco", "moco+v3", "supcon", "cmc", "cmc+ycbcr", "cmc+three", "cmc+core", "cmc+crossed")


def run(kind: str, seed: int, threads: int) -> dict[str, Any]:
    """The result of one training run."""
    flags = f"{BUDGETS[kind]} --train.seed {seed}".replace("DATA", str(data_folder())).split()
    return launched(kind.partition("+")[0], flags, OMP_NUM_THREADS=str(threads))


def summary(found: dict[tuple[str, int], dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each kind and figure, in %."""
    rows = []
    for kind in KINDS:
        results = {seed: result for (name, seed), result in sorted(found.items()) if name == kind}
        over = averaged(results) if results else {"untrained": {}}
        for figure, untrained in over["untrained"].items():
            raw = over["baseline"].get(figure)
            rows.append({
                "recipe": kind, "figure": figure, "raw pixels": "" if raw is None else 100 * raw,
                "untrained": 100 * untrained, "trained": 100 * over[figure],
                "deviation": 100 * over["deviation"][figure] if len(results) > 1 else "", "seeds": len(results),
                "seconds": over["seconds"] / len(results),
            })  # fmt: skip
    return rows


def main() -> None:
    """Run what is asked for, `--at-once` runs at a time; after each, print and write the table so far."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--recipes", nargs="+", choices=KINDS, default=list(KINDS))
    p.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    p.add_argument("--at-once", type=int, default=1)
    p.add_argument("--threads", type=int, default=1, help="of each run")
    p.add_argument("--results", type=Path, default=RESULTS, help="folder of seeds.json")
    options = p.parse_args()
    found: dict[tuple[str, int], dict[str, Any]] = {}
    with ThreadPoolExecutor(options.at_once) as pool:
        todo = {
            pool.submit(run, kind, seed, options.threads): (kind, seed)
            for seed in options.seeds
            for kind in options.recipes
        }
        for done in as_completed(todo):
            found[todo[done]] = done.result()
            finish("seeds", summary(found), options.results, flags={kind: BUDGETS[kind] for kind in options.recipes})


if __name__ == "__main__":
    main()
