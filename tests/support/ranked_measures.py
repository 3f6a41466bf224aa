"""What the tests of sharded evaluation run on each rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from toys import rows

from multicl import load
from multicl.commands.measuring import Choices, measured
from multicl.commands.subject import Subject
from multicl.data.rows import open_rows
from multicl.distributed import World
from multicl.evaluation import knn_accuracy, retrieval, zero_shot_accuracy
from multicl.evaluation.figure import Figure

NAMES = (
    "knn",
    "linear_probe",
    "retrieval",
    "retrieval_within",
    "clustering",
    "alignment",
    "uniformity",
    "modality_gap",
)


def figures(model: str) -> dict[str, Any]:
    """Figures of a saved model's vectors, and of plain ones in chunks of few rows; with intervals."""
    world = World.current()
    test = rows(45, seed=1)
    test[7]["a"] = None
    test[9]["a"] = [1.0]
    subject = Subject(load(Path(model), device="cpu"), open_rows(test), open_rows(rows(64)), batch_size=1, world=world)
    found = measured(subject, NAMES, Choices(k=5))
    dice = torch.Generator().manual_seed(0)
    x, y = torch.randn(33, 5, generator=dice), torch.randn(41, 5, generator=dice)
    ids = [i % 7 for i in range(41)]
    found |= {f"plain {k}": v for k, v in retrieval(x, y, ids[:33], ids, chunk=4, world=world).items()}
    found["few slices"] = knn_accuracy(y, ids, x[:3], ids[:3], k=3, chunk=4, world=world)
    found["plain zero-shot"] = zero_shot_accuracy(x, ids[:33], y[:7], range(7), chunk=4, world=world)
    spans = {}
    for name, value in found.items():
        if isinstance(value, Figure):
            value.draws = 50
            spans[name] = value.interval()
    return {"figures": {name: float(value) for name, value in found.items()}, "spans": spans}
