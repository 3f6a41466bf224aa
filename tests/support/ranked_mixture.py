"""A short run on sets of different columns, for one process or several."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from toys import Vectors, rows

from multicl import Optim, Pair, Train, Trainer

DATA = [
    rows(24),
    [{"a": row["a"]} for row in rows(10, seed=1)],
    [{"b": row["b"], "text": row["text"]} for row in rows(12, seed=2)],
]
TRAIN = Train(batch_size=8, steps=9, lr=0.05, checkpoint_every=5)


def mixed() -> list[Any]:
    """Three data sets: with both columns, and with one of them."""
    import datasets

    return [datasets.Dataset.from_list(part) for part in DATA]


def trained(run: str | None, steps: int = 9, resume: bool = False) -> dict[str, Any]:
    """The weights after a run of `steps` steps at a constant rate."""
    trainer = Trainer(
        {"a": Vectors(), "b": Vectors(width=6)},
        [Pair("a", "b"), Pair("a", "a"), Pair("b", "b")],
        mixed(),
        train=replace(TRAIN, steps=steps),
        optim=Optim(name="sgd", warmup=0, schedule="constant"),
        run=run,
        resume=resume,
    )
    trainer.fit()
    return {name: p.detach().double().tolist() for name, p in trainer.towers.named_parameters()}
