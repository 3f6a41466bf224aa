"""What is lost when a run is killed? Kill -9 at random moments, resume, and compare with an unbroken run.

    python benchmarks/resume.py [--kills 20] [--ranks 1 2] [--seed 0]

A small run (pictures with texts, dropout, BatchNorm, a queue of momentum keys, decoding in a loader process, a
checkpoint every 5 steps) is started as users start it, and killed: one time in four at a random moment after its start,
else at a random moment of training, saving or finishing. A kill is survived if the next start goes on. At the end,
losses and weights are compared bit for bit. CPU, one thread per process; nothing is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from common import finish

import multicl
from multicl import Data, Head, InfoNCE, Modality, Pair, Train
from multicl.modalities.image import Image
from multicl.modalities.text import Text
from multicl.running.checkpoint import checkpoints

CLOCK = {"rows_per_second", "data_wait"}


@dataclass(frozen=True, kw_only=True)
class Recipe(multicl.Run):
    """Pictures with texts."""

    train: Train = field(
        default_factory=lambda: Train(batch_size=16, steps=40, lr=1e-3, checkpoint_every=5, log_every=1)
    )
    head: Head = field(default_factory=lambda: Head(dim=16, layers=2, norm="batch"))

    def modalities(self) -> dict[str, Modality]:
        """Two small towers; the text's has dropout."""
        return {"image": Image("small", size=16), "text": Text("small", width=32, layers=1)}

    def terms(self) -> list[Pair]:
        """Two pairs, one with a queue of momentum keys."""
        return [Pair("image", "text", InfoNCE(0.1, learnable=True), keys="momentum", queue=40), Pair("text", "text")]

    def rows(self) -> Any:
        """Rows of the file that the parent wrote; a loader process decodes them."""
        return Data(path=self.data.path, workers=1, cache_gb=0)


def write_rows(path: Path) -> None:
    """64 random pictures with random words."""
    import io

    import PIL.Image
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    pictures, texts = [], []
    for _ in range(64):
        file = io.BytesIO()
        PIL.Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file, "PNG")
        pictures.append(file.getvalue())
        texts.append(" ".join(rng.choice(["red", "dog", "sea", "old", "sun", "cup"], 4)))
    pq.write_table(pa.table({"image": pictures, "text": texts}), path)


def start(run: Path, rows: Path, ranks: int) -> list[subprocess.Popen[bytes]]:
    """Start a run, which goes on from what its folder holds, and return its processes."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [sys.executable, __file__, "--run", str(run), "--resume", "auto", "--data.path", str(rows)]
    started = []
    for rank in range(ranks):
        world: dict[str, str] = {}
        if ranks > 1:
            world = {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            }  # fmt: skip
        env = {**os.environ, **world, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
        with (run.parent / f"{run.name}-{rank}.log").open("ab") as log:
            started.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
    return started


def train(run: Path, rows: Path, ranks: int) -> float:
    """Train to the end; return the seconds since training began."""
    before = _told(run)
    processes = start(run, rows, ranks)
    while _told(run) == before and processes[0].poll() is None:
        time.sleep(0.01)
    began = time.perf_counter()
    codes = [process.wait() for process in processes]
    if any(codes):
        sys.exit(f"{run} ended with {codes}:\n" + (run.parent / f"{run.name}-0.log").read_text()[-3000:])
    return time.perf_counter() - began


def _told(run: Path) -> int:
    """When the run's status was last written, which happens as training begins."""
    path = run / "status.json"
    return path.stat().st_mtime_ns if path.exists() else 0


def losses(run: Path) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl without what the clock measured."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in CLOCK} for row in rows]


def kill(run: Path, rows: Path, ranks: int, draw: random.Random, trained: float) -> tuple[bool, bool]:
    """Start a run, which goes on from what is there, and kill it; return whether it was alive and whether it failed."""
    before = _told(run)
    processes = start(run, rows, ranks)
    if draw.random() < 0.75:
        while _told(run) == before and processes[0].poll() is None:
            time.sleep(0.01)
    time.sleep(draw.uniform(0, trained / 2))
    alive = any(process.poll() is None for process in processes)
    for process in processes:
        process.send_signal(signal.SIGKILL)
    codes = [process.wait() for process in processes]
    return alive, any(code not in (0, -signal.SIGKILL) for code in codes)


def measure(ranks: int, kills: int, seed: int) -> dict[str, Any]:
    """Kill runs `kills` times in all, and compare each run with an unbroken one."""
    with tempfile.TemporaryDirectory() as folder:
        rows, whole = Path(folder, "rows.parquet"), Path(folder, "whole")
        write_rows(rows)
        trained = train(whole, rows, ranks)
        draw = random.Random(seed)
        tries, failed, reached, equal = 0, 0, [], {"losses": True, "weights": True}
        runs = 0
        while tries < kills:
            run = Path(folder, f"killed-{(runs := runs + 1)}")
            while tries < kills and not (run / "result.json").exists():
                alive, wrong = kill(run, rows, ranks, draw, trained)
                tries, failed = tries + alive, failed + wrong
                found = checkpoints(run / "checkpoints")
                reached.append(found[-1][0] if found else 0)
                print(f"{ranks} processes: kill {tries}, checkpoint {reached[-1]}", file=sys.stderr, flush=True)
            train(run, rows, ranks)
            equal["losses"] &= losses(whole) == losses(run)
            model = Path("model", "model.safetensors")
            equal["weights"] &= (whole / model).read_bytes() == (run / model).read_bytes()
        return {
            "processes": ranks, "kills": tries, "survived": tries - failed, "runs": runs,
            "last checkpoint at each kill": " ".join(map(str, reached)),
            **{name: "equal" if same else "NOT EQUAL" for name, same in equal.items()},
        }  # fmt: skip


def main() -> None:
    """Measure for each number of ranks; print a table and the RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    share = -(-options.kills // len(options.ranks))
    finish("resume", [measure(ranks, share, options.seed + ranks) for ranks in options.ranks])


if __name__ == "__main__":
    if any(argument.startswith("--run") for argument in sys.argv):
        multicl.launch(Recipe)
    else:
        main()
