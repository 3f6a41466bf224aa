"""Training with banks, for `run_ranks`."""

from __future__ import annotations

from typing import Any

from toys import Vectors

from multicl import InstanceNCE, Momentum, Optim, Pair, Train, Trainer


def banked(data: list[dict[str, Any]], chunk: int | None = None, run: Any = None, resume: bool = False) -> Any:
    """The trainer after a few steps over more than an epoch: pairs of one node and of two, momentum keys, labels."""
    terms = [
        Pair("a", "a", InstanceNCE(0.3, negatives=12)),
        Pair("a", "b", InstanceNCE(0.3, negatives=12, softmax=True), ids="label"),
        Pair("b", "b", InstanceNCE(0.3, negatives=12), keys="momentum", space="other"),
    ]
    trainer = Trainer(
        {"a": Vectors(), "b": Vectors(width=6)}, terms, data, optim=Optim(name="sgd", warmup=0), run=run, resume=resume,
        train=Train(batch_size=9, steps=6, lr=0.1, chunk_size=chunk, checkpoint_every=3),
        momentum=Momentum(rate=0.8),
    )  # fmt: skip
    trainer.fit()
    return trainer


def held(data: list[dict[str, Any]], chunk: int | None) -> dict[str, Any]:
    """Weights and the content of memory."""
    trainer = banked(data, chunk)
    found = {name: t.double().tolist() for name, t in trainer.memory.state().items()}
    return found | {name: p.tolist() for name, p in trainer.towers.named_parameters()}
