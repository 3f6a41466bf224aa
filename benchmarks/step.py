"""What does the exact step cost: in memory as the batch grows, and in time relative to a bare PyTorch loop?

    python benchmarks/step.py [--batches 256 1024 4096 16384] [--chunk 64] [--steps 6] [--rounds 9]

Memory: the extra peak of the first step of pictures (32 x 32, `Image("small")`) with texts (`Text("words")`), each in a
process of its own, with rows already loaded; in chunks of 64 rows, and in one piece up to a batch of `--whole`. It
should grow by the embeddings alone (z and its gradient, on both sides; loaded rows do not count as the step's).

Time: medians of the intervals from step to step, with loading, clipping and optimiser, of `Trainer.fit` in one piece
and in chunks, and of a plain PyTorch loop with the same towers, rows, views and loss. The three take turns. A round is
a process of its own, because memory layout varies by chance, and ratios are taken within rounds. CPU time is given
beside wall-clock time, as other processes affect it less. Computing the encoders' forward twice gives a ratio of 4/3 if
a backward costs two forwards and views cost nothing. glibc is told to keep freed memory: returning pages and taking
them anew was a quarter of a step for all three. Results of what is not asked for (`--batches` of none, `--graphs`) are
kept.

Data and weights are random: neither changes what is measured. CPU, all cores; timing needs a quiet machine.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch
from common import RESULTS, finish
from losses.memory import extra_peak

from multicl import InfoNCE, Optim, Pair, Train, Trainer
from multicl.distributed import World
from multicl.modalities.image import Image
from multicl.modalities.text import Text
from multicl.training.memory import Memory
from multicl.training.optim import build_optimizer
from multicl.types import Context, Embedded, Modality

DIM = 128
KEEPING = {"MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_MMAP_THRESHOLD_": str(2**32)}
Stamp = tuple[float, float]
"""Seconds: wall-clock and CPU."""
CLIP: dict[str, Modality] = {"image": Image("small"), "text": Text("words")}
GRAPHS: dict[str, tuple[dict[str, Modality], list[Pair], int, int]] = {  # nodes, pairs, batch, chunk
    "image-text, small nets": (CLIP, [Pair("image", "text", InfoNCE(0.07, learnable=True))], 256, 64),
    "image-image, ResNet-18": (
        {"image": Image("resnet18", stem="cifar", pretrained=False)},
        [Pair("image", "image", InfoNCE(0.5))],
        32,
        16,
    ),
    "text-text, 4-layer transformer": ({"text": Text("small")}, [Pair("text", "text", InfoNCE(0.05))], 64, 16),
}


def rows(count: int) -> list[dict[str, Any]]:
    """Random pictures, and texts of 2 to 20 words."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghij"), 5)) for _ in range(500)]
    return [
        {
            "image": rng.integers(0, 256, (32, 32, 3), dtype=np.uint8),
            "text": " ".join(rng.choice(words, rng.integers(2, 21))),
        }
        for _ in range(count)
    ]


# Memory


def peak(batch: int, chunk: int | None) -> dict[str, Any]:
    """Extra peak and seconds of one step, in a process of its own."""
    measured = child("--measure", str(batch), str(chunk or 0))
    return {"what": "memory", "batch": batch, "chunk": chunk or "whole", **measured}


def child(*arguments: str, **environment: str) -> Any:
    """The last line that this script prints when run with `arguments`, as JSON."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **environment})
    return json.loads(done.stdout.splitlines()[-1])


def measure(batch: int, chunk: int | None) -> dict[str, float | None]:
    """Measure the step alone: forward and backward of rows that are already loaded."""
    nodes, terms, *_ = GRAPHS["image-text, small nets"]
    trainer = Trainer(nodes, terms, rows(batch), train=Train(batch_size=batch, steps=1, chunk_size=chunk))
    part = next(trainer._slices(0))
    trainer.towers.train()
    small = Trainer(nodes, terms, rows(8), train=Train(batch_size=8, steps=1, chunk_size=4))
    for made in (trainer, small):  # what `fit` would have made
        made.memory, made._trained = Memory(made.towers), list(made.towers.parameters())
        made.logbook.due = lambda step: False  # type: ignore[method-assign]  # monitors look at logged steps alone
    small._step(small.towers, next(small._slices(0)), 0)  # makes libraries load what they need
    began = time.perf_counter()
    extra = extra_peak(lambda: trainer._step(trainer.towers, part, 0))
    return {
        "extra MB": None if extra is None else extra / 2**20,
        "embeddings MB": 4 * batch * DIM * 4 / 2**20,
        "seconds": time.perf_counter() - began,
    }


# Time


def trainer_steps(graph: str, chunk: int | None, steps: int) -> list[Stamp]:
    """Time of each step of `fit`, from its start to the start of the next."""
    trainer = _trainer(graph, chunk, steps)
    stamps: list[Stamp] = []
    step = trainer._step

    def stamped(*args: Any) -> Any:
        stamps.append(_now())
        return step(*args)

    trainer._step = stamped  # type: ignore[method-assign]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        trainer.fit()
    return _between(stamps)


def bare_steps(graph: str, steps: int) -> list[Stamp]:
    """The same for a plain loop with the same towers, rows, views and loss."""
    trainer = _trainer(graph, None, steps)
    towers = trainer.towers.train()
    optimizer = build_optimizer(towers, Optim(), 1e-3)
    (pair,) = towers.terms
    context = Context(World(), symmetric=pair.symmetric)
    stamps: list[Stamp] = []
    for part in trainer._slices(0):
        stamps.append(_now())
        sides = []
        for view in (pair.calls[0].a, pair.calls[0].b):
            batch = part.batches[view.node]
            assert batch is not None
            seen = towers.modalities[view.node].view(batch, batch.row * 977 + view.draw, view.kind)
            (z,) = towers.embed(view.node, seen, ["joint"])
            sides.append(Embedded(z, batch.row, part.ids_of(pair, batch.row)))
        loss = towers.objectives[pair.name](*sides, context)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(towers.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return _between(stamps)


def round_of(graph: str, steps: int, turned: bool) -> dict[str, Stamp]:
    """One round, meant for a process of its own: each way's median step, without its first."""
    *_, chunk = GRAPHS[graph]
    ways = {
        "bare loop": lambda: bare_steps(graph, steps),
        "whole": lambda: trainer_steps(graph, None, steps),
        str(chunk): lambda: trainer_steps(graph, chunk, steps),
    }
    found = {}
    for way in list(ways)[:: -1 if turned else 1]:
        wall, cpu = zip(*ways[way]()[1:], strict=True)
        found[way] = (statistics.median(wall), statistics.median(cpu))
    return found


def times(graph: str, steps: int, rounds: int) -> list[dict[str, Any]]:
    """Medians over rounds; ratios are taken within rounds, so that drift of the machine affects all ways alike."""
    *_, batch, chunk = GRAPHS[graph]
    found = [child("--time", graph, str(steps), str(turn % 2), **KEEPING) for turn in range(rounds)]

    def over_bare(way: str, at: int) -> float:
        return statistics.median(each[way][at] / each["bare loop"][at] for each in found)

    return [
        {
            "what": graph,
            "batch": batch,
            "chunk": chunk if way == str(chunk) else way,
            "seconds": statistics.median(each[way][0] for each in found),
            "over bare": over_bare(way, 0),
            "processor's": over_bare(way, 1),
        }
        for way in ("bare loop", "whole", str(chunk))
    ]


def _now() -> Stamp:
    return time.perf_counter(), time.process_time()


def _between(stamps: list[Stamp]) -> list[Stamp]:
    return [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(stamps)]


def _trainer(graph: str, chunk: int | None, steps: int) -> Trainer:
    nodes, terms, batch, _ = GRAPHS[graph]
    return Trainer(nodes, terms, rows(2 * batch), train=Train(batch_size=batch, steps=steps, chunk_size=chunk))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="*", default=[256, 1024, 4096, 16384])
    parser.add_argument("--chunk", type=int, default=64, help="rows a chunk where memory is measured")
    parser.add_argument("--whole", type=int, default=4096, help="largest batch that is tried in one piece")
    parser.add_argument("--graphs", nargs="*", choices=list(GRAPHS), default=list(GRAPHS))
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--measure", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--time", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.measure[0], asked.measure[1] or None)))
        sys.exit()
    if asked.time:
        print(json.dumps(round_of(asked.time[0], int(asked.time[1]), asked.time[2] == "1")))
        sys.exit()
    table = [peak(batch, asked.chunk) for batch in asked.batches]
    table += [peak(batch, None) for batch in asked.batches if batch <= asked.whole]
    for graph in asked.graphs:
        table += times(graph, asked.steps, asked.rounds)
    before = RESULTS / "step.json"
    known = json.loads(before.read_text())["rows"] if before.exists() else []
    new = {(row["what"], row["batch"], row["chunk"]) for row in table}
    table += [row for row in known if (row["what"], row["batch"], row["chunk"]) not in new]
    order = ["memory", *GRAPHS]
    finish("step", sorted(table, key=lambda row: order.index(row["what"])))
