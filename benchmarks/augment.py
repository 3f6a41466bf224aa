"""How many pictures per second does one core augment, two views each: multicl, torchvision, lightly or kornia?

    MULTICL_DATA=... python benchmarks/augment.py [--rounds 5] [--size 32] [--size 224]

CIFAR-10's pictures at 32 pixels, and scaled up to 224. SimCLR's augmentation for CIFAR-10 (crop of 8 to 100 % of the
area, flip, jitter of half strength on 80 %, grey on 20 %), with and without its blur (on half of the views, sigma 0.1
to 2 pixels). Every contender starts from decoded pictures in the form that suits it best (PIL, or uint8 tensors), and
ends with float32 in [0, 1], not normalised. Contenders take turns; time is the process's own CPU time, the median over
rounds. Peers that are not installed are named and left out (kornia is not in the `bench` extra: pip install kornia).
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq
import torch
from common import RESULTS, data_folder, finish
from PIL import Image as Pil
from torch import Tensor

from multicl.modalities.image import Augment, Image, views

BATCH = {32: 512, 224: 64}
KERNEL = {32: 13, 224: 23}
"""Width of peers' blur kernels, which is fixed: 3 sigma of the widest blur; a tenth of the picture, as in SimCLR."""
Contender = Callable[[list[Any]], Any]
"""Takes pictures and returns two views of each."""


def ours(size: int, blur: bool) -> tuple[str, Contender]:
    """The whole batch at once, as in a training step."""
    settings = Augment(crop=(0.08, 1.0), flip=0.5, jitter=0.8, gray=0.2, blur=0.5 if blur else 0.0)
    seed = iter(range(2**40))

    def run(pixels: Tensor) -> tuple[Tensor, ...]:
        rows = torch.arange(len(pixels))
        return tuple(views.random_view(pixels, rows + next(seed) * 2**20, settings) for _ in range(2))

    return "multicl", run


def torchvision_a_sample(size: int, blur: bool) -> tuple[str, Contender]:
    """transforms.v2 on uint8 tensors, a picture at a time."""
    from torchvision.transforms import v2

    view = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.08, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            v2.RandomGrayscale(0.2),
            *([v2.RandomApply([v2.GaussianBlur(KERNEL[size], (0.1, 2.0))], p=0.5)] if blur else []),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    return "tensor", lambda pixels: [torch.stack([view(x) for x in pixels]) for _ in range(2)]


def lightly(size: int, blur: bool) -> tuple[str, Contender]:
    """SimCLRTransform on PIL, as its documentation has it."""
    from lightly.transforms import SimCLRTransform

    view = SimCLRTransform(size, cj_strength=0.5, gaussian_blur=0.5 if blur else 0.0, normalize=None)
    return "pil", lambda pictures: [torch.stack(both) for both in zip(*map(view, pictures), strict=True)]


def kornia(size: int, blur: bool) -> tuple[str, Contender]:
    """The whole batch at once, by kornia's modules."""
    import kornia.augmentation as K

    view = torch.nn.Sequential(
        K.RandomResizedCrop((size, size), scale=(0.08, 1.0)),
        K.RandomHorizontalFlip(),
        K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        K.RandomGrayscale(p=0.2),
        *([K.RandomGaussianBlur((KERNEL[size], KERNEL[size]), (0.1, 2.0), p=0.5)] if blur else []),
    )
    return "tensor", lambda pixels: [view(pixels.float() / 255) for _ in range(2)]


CONTENDERS = {"multicl": ours, "torchvision v2": torchvision_a_sample, "lightly": lightly, "kornia": kornia}


def pictures(size: int, count: int) -> dict[str, Any]:
    """The first of CIFAR-10's training pictures, in the forms that contenders take."""
    cells = pq.read_table(data_folder() / "cifar10" / "train.parquet", columns=["image"]).slice(0, count)["image"]
    encoded = [cell["bytes"] if isinstance(cell, dict) else cell for cell in cells.to_pylist()]
    pil = [Pil.open(io.BytesIO(data)).convert("RGB") for data in encoded]
    pil = [p if p.size == (size, size) else p.resize((size, size), Pil.Resampling.BICUBIC) for p in pil]
    from torchvision.transforms.v2.functional import pil_to_tensor

    adapter = Image("small", size=size)
    own = adapter.collate([adapter.load(p) for p in pil]).get("pixels")
    return {"pil": pil, "tensor": torch.stack([pil_to_tensor(p) for p in pil]), "multicl": own}


def measure(size: int, blur: bool, rounds: int, seconds: float, only: list[str]) -> list[dict[str, Any]]:
    """Pictures per second, a row for each contender."""
    forms = pictures(size, BATCH[size])
    ready: dict[str, Callable[[], Any]] = {}
    for name, make in CONTENDERS.items():
        if only and name not in only:
            continue
        try:
            form, run = make(size, blur)
        except ImportError as error:
            print(f"left out: {name} ({error})", file=sys.stderr)
            continue
        ready[name] = lambda run=run, form=form: run(forms[form])
        ready[name]()
    rates: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(rounds):
        for name, run_once in ready.items():
            began, done = time.process_time(), 0
            while time.process_time() - began < seconds:
                run_once()
                done += BATCH[size]
            rates[name].append(done / (time.process_time() - began))
    median = {name: statistics.median(values) for name, values in rates.items()}
    return [
        {
            "size": size, "blur": blur, "who": name, "pictures/s": round(rate, 1),
            "ours is faster": round(median["multicl"] / rate, 2) if "multicl" in median else "",
            "least": round(min(rates[name]), 1), "most": round(max(rates[name]), 1),
        }
        for name, rate in median.items()
    ]  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a contender in a round")
    parser.add_argument("--size", type=int, action="append", choices=list(BATCH))
    parser.add_argument("--only", nargs="+", default=[], help="contenders; nothing is kept then")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    load = os.getloadavg()[0]  # other processes take cache and memory bandwidth from all
    rows = [
        row
        for size in options.size or list(BATCH)
        for blur in (False, True)
        for row in measure(size, blur, options.rounds, options.seconds, options.only)
    ]
    complete = not options.only and not options.size
    finish("augment", rows, RESULTS if complete else None, rounds=options.rounds, batch=BATCH, threads=1, load=load)
