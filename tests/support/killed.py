"""A tiny run in processes of its own, killed or asked to stop; they are forked, which saves the imports."""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from toys import Vectors, rows

from multicl import Head, InfoNCE, Pair, Train, Trainer

STEPS, EVERY = 40, 4


def trainer(run: Path, resume: bool = True, **settings: Any) -> Trainer:
    options: dict[str, Any] = {
        "batch_size": 16, "steps": STEPS, "lr": 1e-2, "checkpoint_every": EVERY, "log_every": 1, "evaluate_every": 10,
        "best": "first", **settings,
    }  # fmt: skip
    return Trainer(
        {"a": Vectors(dropout=0.1), "b": Vectors(width=5)},
        [Pair("a", "b", InfoNCE(learnable=True)), Pair("a", "a")],
        rows(64),
        train=Train(**options),
        head=Head(norm="batch"),
        run=run,
        resume=resume,
        evaluate=lambda model: {"first": model.embed(a=[rows(1)[0]["a"]])[0, 0].item()},
    )


def start(run: Path, ranks: int) -> list[int]:
    """Start a run that resumes from its folder; returns the process ids."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    return [fork(run, rank, ranks, port) for rank in range(ranks)]


def fork(run: Path, rank: int, ranks: int, port: int) -> int:
    child = os.fork()
    if child:
        return child
    if ranks > 1:
        os.environ.update(
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_WORLD_SIZE=str(ranks),
            MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
        )  # fmt: skip
    code = 1
    try:
        torch.set_num_threads(1)
        trainer(run).fit()
        code = 0
    except SystemExit as left:
        code = int(left.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def end(children: list[int]) -> list[int]:
    """Their exit codes; minus the signal that killed them."""
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def finish(run: Path, ranks: int) -> float:
    """Train to the end; returns the seconds it took."""
    began = time.perf_counter()
    codes = end(start(run, ranks))
    assert codes == [0] * ranks, codes
    return time.perf_counter() - began


def said(folder: str, ranks: int, kills: int, seed: int) -> str:
    """Train folder/whole, then folder/killed, which is killed `kills` times, then folder/stopped, whose last rank gets
    SIGTERM. Returns what they print; call it in a process of its own, as it redirects the process's output."""
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        del os.environ[name]  # of this process
    os.environ["ACCELERATE_USE_CPU"] = "true"
    out = Path(folder, "out.txt")
    with out.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    whole, killed, stopped = (Path(folder, name) for name in ("whole", "killed", "stopped"))
    took = finish(whole, ranks)
    draw = random.Random(seed)
    for _ in range(kills):
        children = start(killed, ranks)
        time.sleep(draw.uniform(0, 0.6 * took))
        for child in children:
            os.kill(child, signal.SIGKILL)
        end(children)
        reached = [int(p.name[5:]) for p in (killed / "checkpoints").glob("step-*")]
        print("killed at", max(reached, default="the beginning"), flush=True)
    finish(killed, ranks)
    children = start(stopped, ranks)
    while not (stopped / "checkpoints" / f"step-{EVERY}").exists():
        time.sleep(0.001)
    os.kill(children[-1], signal.SIGTERM)
    print("stopped with", end(children), (stopped / "status.json").read_text(), flush=True)
    finish(stopped, ranks)
    return out.read_text()
