"""Mining on each rank, for `run_ranks`, or in a world of one."""

from __future__ import annotations

from typing import Any

from toys import Vectors

import multicl.training.mining
from multicl import InfoNCE, Mine, Optim, Pair, Train, Trainer

TERMS = [
    Pair("a", "b", InfoNCE(0.2, learnable=True), ids="label", mine=Mine(negatives=2, every=2, relative_margin=0.1)),
    Pair("a", "a", InfoNCE(0.2), weight=0.5, mine=Mine(every=3, start=1, skip=1, among=4), name="own"),
]


def mined(data: list[dict[str, Any]], folder: str, chunk: int | None) -> dict[str, Any]:
    """The tables before the first step, the searches of a few steps, and the weights after them."""
    multicl.training.mining.BLOCK = 5
    train = Train(batch_size=9, steps=4, lr=0.1, chunk_size=chunk)
    optim = Optim(name="sgd", warmup=0)
    trainer = Trainer({"a": Vectors(), "b": Vectors(width=6)}, TERMS, data, train=train, optim=optim, run=folder)
    trainer.miner.refresh(0)
    trainer.miner.refresh(1)
    first = {name: table.tolist() for name, table in trainer.miner.tables.items()}
    trainer.miner.tables.clear()
    searched: list[str] = []
    search = trainer.miner._search
    trainer.miner._search = lambda pair, *rest: searched.append(pair.name) or search(pair, *rest)  # type: ignore[method-assign,func-returns-value]
    trainer.fit()
    weights = {name: p.detach().tolist() for name, p in trainer.towers.named_parameters()}
    return {"first": first, "searched": searched, "weights": weights}
