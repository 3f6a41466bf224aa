"""Pictures on a GPU: how fast are random views, and how much of a training step is not the encoder?

    MULTICL_DATA=... python benchmarks/image_gpu.py [--only views step] [--methods simclr moco]

Views: two of each picture, by SimCLR's augmentation with and without blur, from uint8 pictures on the GPU. "of
bandwidth" compares the bytes per second, with one read of the picture and one write for each view, to those of a copy.
The peer is kornia (pip install kornia), with its modules in the same order.

Step: `recipes/simclr.py` and `recipes/moco.py` as they are (ResNet-18, CIFAR's stem), in bf16. "encoder ms" times
encoder and head alone on precomputed views: forward and backward of what is trained, forward of momentum towers. The
rest of the step is data, views, loss, clipping, optimiser and the Python between them. Without a CUDA device the script
says so and ends; `--device cpu` tries the script, not the speed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common import RESULTS, data_folder, finish, seconds
from torch import Tensor

from multicl import Data, Train, Trainer
from multicl.modalities.image import Augment, Image, views
from multicl.recipes import moco, simclr
from multicl.types import Batch

BATCH = {32: 4096, 224: 256}
KERNEL = {32: 13, 224: 23}
"""Width of kornia's blur kernel."""
METHODS = {"simclr": simclr.Recipe, "moco": moco.Recipe}


def copied(device: torch.device) -> float:
    """Bytes per second that a copy reads and writes."""
    x = torch.zeros(2**28 if device.type == "cuda" else 2**22, device=device)
    y = torch.empty_like(x)
    return 2 * x.nbytes / seconds(lambda: y.copy_(x), device, 10)


def ours(size: int, blur: bool) -> Callable[[Tensor], Any]:
    """multicl's views, as in a training step."""
    settings = Augment(crop=(0.08, 1.0), flip=0.5, jitter=0.8, gray=0.2, blur=0.5 if blur else 0.0)
    seed = iter(range(2**40))

    def run(pixels: Tensor) -> list[Tensor]:
        rows = torch.arange(len(pixels))
        return [views.random_view(pixels, rows + next(seed) * 2**20, settings) for _ in range(2)]

    return run


def kornia(size: int, blur: bool) -> Callable[[Tensor], Any]:
    """kornia's modules."""
    import kornia.augmentation as K

    view = torch.nn.Sequential(
        K.RandomResizedCrop((size, size), scale=(0.08, 1.0)),
        K.RandomHorizontalFlip(),
        K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        K.RandomGrayscale(p=0.2),
        *([K.RandomGaussianBlur((KERNEL[size], KERNEL[size]), (0.1, 2.0), p=0.5)] if blur else []),
    )
    return lambda pixels: [view(pixels.float() / 255) for _ in range(2)]


def measure_views(device: torch.device, calls: int) -> list[dict[str, Any]]:
    """A row for each size, blur and contender."""
    rate, rows = copied(device), []
    for size, batch in BATCH.items():
        data = Data(path=str(data_folder() / "cifar10"), split=f"train[:{batch}]")
        cells = [row["image"] for row in data.open()]
        adapter = Image("small", size=size)
        pixels = adapter.collate([adapter.load(cell) for cell in cells]).get("pixels").to(device)
        for blur in (False, True):
            for name, make in {"multicl": ours, "kornia": kornia}.items():
                row: dict[str, Any] = {"what": "views", "size": size, "blur": blur, "who": name}
                rows.append(row)
                try:
                    run = make(size, blur)
                    spent = seconds(partial(run, pixels), device, calls)
                except ImportError as error:
                    row["note"] = f"missing: {error}"
                    continue
                row |= {"ms": 1000 * spent, "pictures/s": batch / spent}
                row["of bandwidth"] = 2 * batch * 3 * size * size * (1 + 4) / spent / rate
    return rows


def measure_step(method: str, batch: int, device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    """Time of a recipe's step, and of its encoder alone."""
    data = Data(path=str(data_folder() / "cifar10"), split=f"train[:{options.images}]")
    train = Train(batch_size=batch, steps=options.steps, mixed_precision="bf16", log_every=options.log_every)
    recipe = METHODS[method](data=data, train=train)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            recipe.modalities(), recipe.terms(), data, train=train, optim=recipe.optim, head=recipe.head,
            momentum=recipe.momentum, run=Path(folder) / "run", space=None,
        )  # fmt: skip
        trainer.fit()
        lines = [json.loads(line) for line in (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()]
    rates = [line["rows_per_second"] for line in lines if "rows_per_second" in line]
    late = rates[len(rates) // 2 :]  # the first epoch decodes
    step = batch / median(late)
    encoder = alone(trainer, device, batch, keys=method == "moco")
    return {
        "what": "step", "who": method, "batch": batch, "step ms": 1000 * step, "encoder ms": 1000 * encoder,
        "not the encoder": 1 - encoder / step, "pictures/s": median(late),
    }  # fmt: skip


def alone(trainer: Trainer, device: torch.device, batch: int, keys: bool) -> float:
    """Seconds of encoder and head for a step's views; `keys`: momentum towers embed one of the two."""
    towers = trainer.towers.train()
    pixels = [torch.rand(batch, 3, 32, 32, device=device) for _ in range(2)]

    def run() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            z = [towers.embed("image", Batch({"pixels": x}), ["joint"])[0] for x in pixels[: 1 if keys else 2]]
            if keys:
                with torch.no_grad():
                    towers.embed("image", Batch({"pixels": pixels[1]}), ["joint"])
        torch.stack(z).sum().backward()
        towers.zero_grad()

    each = 10  # synchronised once for all, as in training

    def several() -> None:
        for _ in range(each):
            run()

    return seconds(several, device, 5) / each


def main() -> None:
    """Measure what is asked for; print a table and the RESULT line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", nargs="+", choices=["views", "step"], default=["views", "step"])
    p.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    p.add_argument("--device", default="cuda")
    p.add_argument("--batch", nargs="+", type=int, default=[512, 1024])
    p.add_argument("--images", type=int, default=25_600)
    p.add_argument("--steps", type=int, default=300)
    p.add_argument("--log-every", type=int, default=10)
    p.add_argument("--calls", type=int, default=20)
    p.add_argument("--results", type=Path, default=RESULTS, help="folder of image_gpu.json")
    options = p.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("image_gpu: no CUDA machine here, nothing is measured")
        return
    rows = measure_views(device, options.calls) if "views" in options.only else []
    if "step" in options.only:
        for method in options.methods:
            for batch in options.batch:
                rows.append(measure_step(method, batch, device, options))
                print(rows[-1], file=sys.stderr, flush=True)
    finish("image_gpu", rows, options.results)


if __name__ == "__main__":
    main()
