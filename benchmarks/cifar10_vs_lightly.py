"""SimCLR on CIFAR-10 beside lightly: with equal encoder, data, batch, steps and augmentation, how good, and how fast?

    MULTICL_DATA=... python benchmarks/cifar10_vs_lightly.py [--images 20000] [--steps 600] [--seeds 0 1 2]

Both share the towers (`Image("small")` and SimCLR's head, with the same initial weights), the optimiser with its
schedule, and the probe: nearest neighbours (k = 200, T = 0.1) of held-out pictures among the training pictures. multicl
runs `Trainer.fit`. lightly runs its SimCLRTransform on each picture, in a DataLoader with the number of workers that
proves fastest, and its NTXentLoss. lightly starts from decoded pictures; multicl decodes them in its first epoch, whose
steps are timed for neither, unless there are no others.

A step lasts from its start to the start of the next, so it includes waiting for pictures. The encoder's share is the
forward and backward of encoder and head; outside of it are loading, views, loss, clipping and the optimiser. Workers
take cores from the encoder, or run unnoticed on idle ones, so "outside cpu ms" is the CPU time of all processes per
step, less that of the encoder. CIFAR-10 is stored as JPEG of quality 75; published figures are of lossless pixels. CPU;
timing needs a quiet machine.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from common import RESULTS, data_folder, finish, table
from lightly.loss import NTXentLoss
from lightly.transforms import SimCLRTransform
from PIL import Image as Pil
from torch import Tensor

from multicl import Data, Head, InfoNCE, Model, Optim, Pair, Train, Trainer
from multicl.evaluation.knn import knn_accuracy
from multicl.modalities.image import Augment, Image, decode
from multicl.towers import Towers
from multicl.training.optim import build_optimizer, lr_factor, set_lr
from multicl.types import Batch

TEMPERATURE, LR, OPTIM, HEAD = 0.5, 1e-3, Optim(weight_decay=1e-4), Head(dim=128, layers=2, norm="batch")
VIEWS = Augment(crop=(0.2, 1.0), flip=0.5, jitter=0.8, gray=0.2)
WARM = 3
"""Steps at the start that are not timed."""


def theirs() -> SimCLRTransform:
    """VIEWS as lightly's transform; its strength of 0.5 halves a jitter of 0.8, 0.8, 0.8 and 0.2."""
    return SimCLRTransform(32, cj_strength=0.5, min_scale=0.2, gaussian_blur=0.0, normalize=None)


class Clock:
    """When steps begin, and how long the encoder takes in each: wall-clock seconds, and CPU seconds of this process."""

    def __init__(self) -> None:
        self.begins: list[Any] = []
        self.encoder: list[Any] = []

    def tick(self) -> None:
        """Record that a step begins."""
        self.begins.append(now())
        self.encoder.append(np.zeros(2))

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Count the time within as the encoder's."""
        began = now()
        yield
        self.encoder[-1] += now() - began

    def figures(self, helpers: float, epoch: int = 0) -> dict[str, float]:
        """Mean milliseconds of a timed step, and of its parts.

        Args:
            helpers: CPU seconds that loader processes took in the whole run.
            epoch: steps of the first epoch, which are not timed.
        """
        first, last = min(max(WARM, epoch), len(self.begins) - 2), len(self.begins) - 1
        step, cpu = 1e3 * (self.begins[last] - self.begins[first]) / (last - first)
        encoder, encoder_cpu = 1e3 * np.mean(self.encoder[first:last], axis=0)
        outside_cpu = cpu - encoder_cpu + 1e3 * helpers / len(self.begins)
        found = {"step ms": step, "encoder ms": encoder, "outside ms": step - encoder, "outside cpu ms": outside_cpu}
        return {name: float(value) for name, value in found.items()}


def now() -> Any:
    """[2] seconds: wall-clock and CPU."""
    return np.array([time.perf_counter(), time.process_time()])


def helped() -> float:
    """CPU seconds of all loader processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


class Pictures(torch.utils.data.Dataset[Any]):
    """Decoded pictures, a pair of views of each."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels, self.transform = pixels.permute(0, 2, 3, 1).contiguous().numpy(), theirs()

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, at: int) -> list[Tensor]:
        views: list[Tensor] = self.transform(Pil.fromarray(self.pixels[at]))
        return views


def cells(split: str, count: int) -> tuple[list[bytes], list[int]]:
    """The first `count` encoded pictures of a split, and their labels."""
    rows = pq.read_table(data_folder() / "cifar10" / f"{split}.parquet", columns=["image", "label"]).slice(0, count)
    encoded = [cell["bytes"] if isinstance(cell, dict) else cell for cell in rows["image"].to_pylist()]
    return encoded, rows["label"].to_pylist()


def trainer(options: argparse.Namespace, seed: int, steps: int) -> Trainer:
    """The trainer of multicl's run; lightly's run takes its towers."""
    data = Data(path=str(data_folder() / "cifar10"), split=f"train[:{options.images}]", workers=0)
    train = Train(batch_size=options.batch, steps=steps, lr=LR, seed=seed, log_every=50)
    nodes = {"image": Image("small", size=32, strong=VIEWS)}
    terms = [Pair("image", "image", InfoNCE(TEMPERATURE))]
    return Trainer(nodes, terms, data, train=train, optim=OPTIM, head=HEAD, space=None)


def with_multicl(options: argparse.Namespace, seed: int, steps: int) -> tuple[Clock, Towers]:
    """Run `Trainer.fit` with a clock in it."""
    clock, made = Clock(), trainer(options, seed, steps)
    step, backward, forward = made._step, made.accelerator.backward, made.towers.forward

    def stamped(*args: Any) -> Any:
        clock.tick()
        return step(*args)

    def timed(inner: Any) -> Any:
        def run(*args: Any) -> Any:
            with clock.computing():
                return inner(*args)

        return run

    made._step = stamped  # type: ignore[method-assign]
    made.accelerator.backward = timed(backward)  # type: ignore[method-assign]
    made.towers.forward = timed(forward)  # type: ignore[method-assign]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        made.fit()
    return clock, made.towers


def with_lightly(
    options: argparse.Namespace, seed: int, steps: int, pixels: Tensor, workers: int
) -> tuple[Clock, Towers]:
    """Run the loop of lightly's documentation."""
    clock, towers = Clock(), trainer(options, seed, steps).towers.train()
    optimizer, criterion = build_optimizer(towers, OPTIM, LR), NTXentLoss(TEMPERATURE)
    loader = torch.utils.data.DataLoader(
        Pictures(pixels), options.batch, shuffle=True, drop_last=True, num_workers=workers,
        persistent_workers=workers > 0, generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    endless = (views for _ in iter(int, 1) for views in loader)
    for step in range(steps):
        clock.tick()
        views = next(endless)
        set_lr(optimizer, LR * lr_factor(OPTIM, step, steps))
        with clock.computing():
            z = [towers.embed("image", Batch({"pixels": view}), ["joint"])[0] for view in views]
        leaves = [x.detach().requires_grad_() for x in z]  # so that the loss's own backward is not the encoder's
        criterion(*leaves).backward()
        with clock.computing():
            torch.autograd.backward(z, [leaf.grad for leaf in leaves])
        torch.nn.utils.clip_grad_norm_(towers.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return clock, towers


def best_workers(options: argparse.Namespace, pixels: Tensor) -> tuple[int, dict[int, float]]:
    """lightly's fastest number of loader processes, and the milliseconds per step with each number."""
    tried = {}
    for workers in options.workers:
        tried[workers] = with_lightly(options, 0, options.trial, pixels, workers)[0].figures(0.0)["step ms"]
        print(f"lightly with {workers} workers: {tried[workers]:.0f} ms a step", file=sys.stderr, flush=True)
    return min(tried, key=tried.__getitem__), tried


def probe(towers: Towers, bank: tuple[list[bytes], list[int]], test: tuple[list[bytes], list[int]]) -> float:
    """kNN accuracy of the encoder's features, in per cent."""
    model = Model(towers, None)
    x, y = (model.embed_node("image", pictures, batch_size=256) for pictures, _ in (bank, test))
    return 100 * knn_accuracy(x, bank[1], y, test[1])


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds, the probe's standard deviation over them, and the ratios of multicl to lightly."""
    found = []
    for who in ("multicl", "lightly"):
        mine = [row for row in rows if row["who"] == who]
        means = {name: statistics.mean(r[name] for r in mine) for name in mine[0] if name not in ("who", "seed")}
        spread = statistics.stdev(r["knn"] for r in mine) if len(mine) > 1 else 0.0
        found.append({"who": who, **means, "knn deviation": spread})
    ours, other = found
    ratios = {name: ours[name] / other[name] for name in ours if name.endswith((" ms", " s"))}
    return [*found, {"who": "multicl / lightly", "knn": ours["knn"] - other["knn"], **ratios}]


if __name__ == "__main__":
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000, help="of training, and among which the probe looks")
    parser.add_argument("--test", type=int, default=10_000, help="held-out pictures that the probe asks about")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, nargs="+", default=list(range(cores + 1)), help="of which the best")
    parser.add_argument("--trial", type=int, default=16, help="steps in which workers are tried")
    parser.add_argument("--dry", action="store_true", help="write no result")
    asked = parser.parse_args()
    bank, test = cells("train", asked.images), cells("test", asked.test)
    pixels = torch.stack([decode.load(raw, 32, 32) for raw in bank[0]])
    untrained = probe(trainer(asked, asked.seeds[0], 1).towers, bank, test)
    raw = pixels.flatten(1).float(), torch.stack([decode.load(r, 32, 32) for r in test[0]]).flatten(1).float()
    baseline = 100 * knn_accuracy(raw[0], bank[1], raw[1], test[1])
    workers, tried = best_workers(asked, pixels)
    rows = []
    for seed in asked.seeds:
        for who in ("multicl", "lightly"):
            began, helpers = time.perf_counter(), helped()
            if who == "multicl":
                clock, towers = with_multicl(asked, seed, asked.steps)
            else:
                clock, towers = with_lightly(asked, seed, asked.steps, pixels, workers)
            wall, figures = time.perf_counter() - began, clock.figures(helped() - helpers, asked.images // asked.batch)
            rows.append({"who": who, "seed": seed, "knn": probe(towers, bank, test), **figures, "wall s": wall})
            print(table(rows[-1:]), file=sys.stderr, flush=True)
    means = summary(rows)
    print(table(means))
    finish(
        "cifar10_vs_lightly", rows, None if asked.dry else RESULTS, means=means, untrained=untrained, raw=baseline,
        workers=workers, tried=tried, options=vars(asked), threads=torch.get_num_threads(),
    )  # fmt: skip
