"""Training with a predictor, for `run_ranks`."""

from __future__ import annotations

from typing import Any

from toys import Vectors

from multicl import InfoNCE, Optim, Pair, Predicted, Train, Trainer
from multicl.settings import Momentum


def predicted(data: list[dict[str, Any]], chunk: int | None) -> dict[str, Any]:
    """Weights after a few steps: symmetric, with only the batch's momentum keys, as in MoCo v3."""
    objective = Predicted(InfoNCE(0.2, learnable=True), hidden=5, norm="layer")
    trainer = Trainer(
        {"a": Vectors(dropout=0.0)}, [Pair("a", "a", objective, keys="momentum", weight=0.8)], data,
        train=Train(batch_size=9, steps=5, lr=0.1, chunk_size=chunk), momentum=Momentum(rate=0.8, schedule="cosine"),
        optim=Optim(name="sgd", warmup=0),
    )  # fmt: skip
    trainer.fit()
    return {name: p.tolist() for name, p in trainer.towers.named_parameters()}
