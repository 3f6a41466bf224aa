"""Training with every kind of memory, for `run_ranks`."""

from __future__ import annotations

from typing import Any

from toys import Vectors

from multicl import InfoNCE, Optim, Pair, Train, Trainer
from multicl.settings import Momentum


def remembered(data: list[dict[str, Any]], chunk: int | None) -> dict[str, Any]:
    """Weights and the content of memory after a few steps: momentum keys, queues, explicit negatives."""
    terms = [
        Pair("a", "a", InfoNCE(0.2, learnable=True), keys="momentum", queue=14),
        Pair("a", "b", InfoNCE(0.2), queue=20, negatives="c"),
    ]
    trainer = Trainer(
        {"a": Vectors(), "b": Vectors(width=6), "c": Vectors(tower="b", width=6)}, terms, data,
        train=Train(batch_size=9, steps=5, lr=0.1, chunk_size=chunk), momentum=Momentum(rate=0.8),
        optim=Optim(name="sgd", warmup=0),
    )  # fmt: skip
    trainer.fit()
    held = {name: t.tolist() for name, t in trainer.memory.state().items()}
    return held | {name: p.tolist() for name, p in trainer.towers.named_parameters()}
