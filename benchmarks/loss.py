"""How fast are the losses, how much memory do they take, and who is right?

    pip install -e '.[bench]'                       # the peers; one that is missing is named and left out
    python benchmarks/loss.py                       # everything: about two hours on two otherwise idle cores
    python benchmarks/loss.py --quick               # small batches
    python benchmarks/loss.py --only info_nce --batch 16384 --dim 256

Forward and backward in float32 on a CPU, gradients to both inputs and to a temperature where peers can learn it. Each
(loss, implementation, B, D) has a process of its own. Its first full-size run gives the extra peak memory. Then the
processes of one (loss, B, D) take turns, a block of calls each, and every round starts with another one, so that drift
of the machine affects all of them. Times are medians over rounds; "time / ours" is the median of the ratios within
rounds. The memory layout of a process can decide its speed for as long as it lives: `--processes 3` repeats everything
with new processes, and reports medians over the three.

`floor` is the time of the matrix products that a loss needs if it saves no matrix, `floor-half` the same over half of a
symmetric matrix (losses/floor.py names them). "loss off" and "gradient off" are relative differences from a float64
reference. B counts pairs: nt_xent and sup_con have 2B rows. Results of sizes that are not measured and of other
processors are kept: each row names its processor, and targets are checked for each.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from common import RESULTS, finish, machine, table
from losses.implementations import LOSSES
from losses.inputs import SYMMETRIC
from losses.memory import available
from losses.targets import targets
from losses.worker import Cell, GoneError, Worker

BATCHES, DIMS = (256, 1024, 4096, 8192, 16384, 32768), (128, 512)
LARGEST = {"info_nce_one": 8192, "sup_con": 8192, "sigmoid": 16384}
"""Largest B of these losses; the others are measured at every size."""
GROWTH = 65536
BLOCK, ROUNDS, LEAST = 0.05, 40, 3
"""Seconds of a block of calls; most and fewest rounds."""
GB = 2**30


def plan(options: argparse.Namespace) -> list[Cell]:
    """The sizes asked for, small ones first: the time of large ones is predicted from them."""
    cells = []
    for loss in options.only or LOSSES:
        sizes = [(b, d) for d in options.dim or DIMS for b in options.batch or BATCHES]
        if not (options.batch or options.dim):
            sizes = [(b, d) for b, d in sizes if b <= LARGEST.get(loss, b)]
            sizes += [(16384, 256)] if loss == "info_nce" else []
            sizes += [(GROWTH, 128)] if loss in ("nt_xent", "info_nce") else []
        cells += [Cell(loss, b, d) for b, d in sizes]
    return cells


def measure(cell: Cell, options: argparse.Namespace, before: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each implementation: medians over sets of processes, if several are asked for.

    Args:
        before: rows of this run, from which the time of larger sizes is predicted.
    """
    sets = [{row["implementation"]: row for row in _once(cell, options, before)} for _ in range(options.processes)]
    rows = list(sets[0].values())
    for row in rows if len(sets) > 1 else ():
        every = [dict(one[row["implementation"]]) for one in sets]
        for key in ("ms", "extra MB", "time / ours", "memory / ours"):
            if all(one.get(key) is not None for one in every):
                row[key] = median(one[key] for one in every)
        if "ms" in row:
            row["ms of processes"] = [round(one["ms"], 3) for one in every if "ms" in one]
    return rows


def _once(cell: Cell, options: argparse.Namespace, before: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each implementation, measured in a process of its own."""
    found: dict[str, dict[str, Any]] = {}
    workers: dict[str, Worker] = {}
    times: dict[str, list[float]] = {}
    floors = ["floor", "floor-half"] if cell.loss in SYMMETRIC else ["floor"]
    for name in [*LOSSES[cell.loss], *floors]:
        if options.implementations and name not in options.implementations:
            continue
        found[name] = {"loss": cell.loss, "B": cell.batch, "D": cell.dim, "implementation": name, "cpu": options.cpu}
        why = _too_much(cell, name, options, before)
        if why:
            found[name]["note"] = f"not run: {why}"
        else:
            workers[name] = Worker(cell, name, options.threads, options.limit)
    try:
        with tempfile.TemporaryDirectory() as folder:
            _first(cell, workers, found, options, Path(folder))
        _rounds(workers, found, times, options.seconds)
    finally:
        for worker in workers.values():
            worker.close()
    _ratios(found, times)
    return list(found.values())


def _too_much(cell: Cell, name: str, options: argparse.Namespace, before: Iterable[dict[str, Any]]) -> str | None:
    if cell.batch == GROWTH and name != "multicl" and not options.batch:
        return "growth of ours alone"
    rows = 2 * cell.batch if cell.loss in SYMMETRIC else cell.batch
    needs = 0.0 if name.startswith("floor") else LOSSES[cell.loss][name].needs(rows) / GB
    if needs > options.memory:
        return f"needs about {needs:.3g} GB"
    same = [r for r in before if (r["loss"], r["implementation"], r["D"]) == (cell.loss, name, cell.dim) and "ms" in r]
    if same and (seconds := same[-1]["ms"] / 1000 * (cell.batch / same[-1]["B"]) ** 2) > options.limit:
        return f"a call would take about {seconds:.0f} s"
    return None


def _ask(
    workers: dict[str, Worker], found: dict[str, dict[str, Any]], name: str, question: str, *args: Any, times: int = 1
) -> Any:
    """A worker's answer; a worker that is gone is noted in its row and dropped."""
    try:
        return workers[name].ask(question, *args, times=times)
    except GoneError as gone:
        found[name]["note"] = f"not run: {gone}"
        workers.pop(name).close()
        return None


def _first(
    cell: Cell, workers: dict[str, Worker], found: dict[str, dict[str, Any]], options: argparse.Namespace, folder: Path
) -> None:
    """One run of each: memory, a first estimate of the time, and agreement if the reference does not take too long."""
    for name in list(workers):  # nothing is measured while others load their libraries
        _ask(workers, found, name, "ready")
    for name in list(workers):
        if answer := _ask(workers, found, name, "first"):
            found[name]["seconds"], peak = answer
            found[name]["extra MB"] = None if peak is None else peak / 2**20
    if cell.batch > options.reference:
        return
    right = str(folder / "right.safetensors")
    judge = Worker(cell, "floor", options.threads, 3600)  # any implementation can; this one needs no peer
    judge.ask("save_reference", right)
    judge.close()
    for name in [name for name in workers if not name.startswith("floor")]:
        if answer := _ask(workers, found, name, "agreement", right):
            found[name]["loss off"], found[name]["gradient off"] = answer


def _rounds(
    workers: dict[str, Worker], found: dict[str, dict[str, Any]], times: dict[str, list[float]], share: float
) -> None:
    calls, rounds = {}, {}
    for name in workers:
        seconds = found[name].pop("seconds")
        calls[name] = max(1, min(200, round(BLOCK / seconds)))
        rounds[name] = max(LEAST, min(ROUNDS, int(share / (calls[name] * seconds))))
    for r in range(max(rounds.values(), default=0)):
        turn = [name for name in workers if r < rounds[name]]
        first = r % max(1, len(turn))
        for name in turn[first:] + turn[:first]:
            time.sleep(0.005)  # the previous worker's threads keep spinning for a moment
            if block := _ask(workers, found, name, "block", calls[name], times=calls[name]):
                times.setdefault(name, []).append(median(block))
    for name, seconds in times.items():
        if name in workers:
            found[name] |= {"ms": 1000 * median(seconds), "rounds": len(seconds), "calls": calls[name]}


def _ratios(found: dict[str, dict[str, Any]], times: dict[str, list[float]]) -> None:
    ours = found.get("multicl", {})
    for name, seconds in times.items():
        if "ms" not in ours or "ms" not in found[name]:
            continue
        found[name]["time / ours"] = median(t / o for t, o in zip(seconds, times["multicl"], strict=False))
        if found[name]["extra MB"] and ours["extra MB"] and not name.startswith("floor"):
            found[name]["memory / ours"] = found[name]["extra MB"] / ours["extra MB"]


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["cpu"], row["loss"], row["B"], row["D"]


def options() -> argparse.Namespace:
    """The command line."""
    import torch

    memory = min(18.0, 0.85 * (available() or 18 * GB) / GB)
    names = list(dict.fromkeys([*(n for peers in LOSSES.values() for n in peers), "floor", "floor-half"]))
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", nargs="+", choices=list(LOSSES), help="losses")
    p.add_argument("--batch", nargs="+", type=int, help=f"pairs; default {BATCHES}, and {GROWTH} for ours alone")
    p.add_argument("--dim", nargs="+", type=int, help=f"widths; default {DIMS}")
    p.add_argument("--implementations", nargs="+", choices=names)
    p.add_argument("--quick", action="store_true", help="B = 256 and 1024, D = 128; results are not kept")
    p.add_argument("--processes", type=int, default=1, help="of each implementation and size, one after another")
    p.add_argument("--threads", type=int, default=torch.get_num_threads())
    p.add_argument("--memory", type=float, default=memory, help="GB above which an implementation is not run")
    p.add_argument("--seconds", type=float, default=4.0, help="of an implementation's timed calls at one size, about")
    p.add_argument("--limit", type=float, default=120.0, help="seconds a call above which it is not run")
    p.add_argument("--reference", type=int, default=8192, help="largest B that is compared with float64")
    p.add_argument("--results", type=Path, help="folder of loss.json; default benchmarks/results")
    p.add_argument("--dry-run", action="store_true", help="list the sizes and end")
    return p.parse_args()


def main() -> None:
    """Measure the sizes asked for; print tables and the RESULT line."""
    given = options()
    if given.quick:
        given.batch, given.dim = given.batch or [256, 1024], given.dim or [128]
    cells = plan(given)
    if given.dry_run:
        print("\n".join(f"{c.loss} B={c.batch} D={c.dim}" for c in cells))
        return
    given.cpu = machine()["cpu"]
    folder = given.results or (None if given.quick else RESULTS)
    kept = folder / "loss.json" if folder else None
    old = json.loads(kept.read_text())["rows"] if kept and kept.exists() else []
    busy = os.getloadavg()[0]
    if busy > 0.5:
        print(f"other programs are running (load {busy:.1f}): times will be wrong", file=sys.stderr)
    rows: list[dict[str, Any]] = []
    try:
        for cell in cells:
            start = time.perf_counter()
            new = measure(cell, given, rows)
            rows += new
            print(table(new), file=sys.stderr)
            print(f"{time.perf_counter() - start:.0f} s\n", file=sys.stderr, flush=True)
    finally:  # what was measured before an interrupt is kept
        done = {_key(row) for row in rows}
        every = [row for row in old if _key(row) not in done] + rows
        every.sort(key=lambda row: (row["cpu"], list(LOSSES).index(row["loss"]), row["D"], row["B"]))
        asked = targets(every)
        print(table(asked))
        titles = {loss: {name: i.title for name, i in peers.items()} for loss, peers in LOSSES.items()}
        finish("loss", every, folder, targets=asked, titles=titles, threads=given.threads, load_before=busy)


if __name__ == "__main__":
    main()
