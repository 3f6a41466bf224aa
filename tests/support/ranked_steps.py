"""Steps under real DDP, for `run_ranks`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from steps import Built, cells, kept, looks, step, three, tied
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from toys import Vectors, rows

import multicl.training.chunk_size
from multicl import Head, InfoNCE, InputError, Optim, Pair, Train, Trainer
from multicl.distributed import World
from multicl.towers import Towers
from multicl.training.norms import average_statistics
from multicl.types import Batch

Case = dict[str, Any]
MAKERS: dict[str, Callable[..., Towers]] = {"three": three, "tied": tied}


def whole(case: Case) -> tuple[Towers, dict[str, Batch | None]]:
    """A case's towers and the rows of all ranks; `lacking`: node -> rows that it lacks. `double`: all in float64."""
    towers = MAKERS[case.get("towers", "three")](**case.get("options", {}))
    batches: dict[str, Batch | None] = {}
    for node, batch in cells(towers).items():
        left = [row for row in range(8) if row not in case.get("lacking", {}).get(node, [])]
        if case.get("double") and "x" in batch:
            batch = batch.replace(x=batch.get("x").double())
        batches[node] = batch[torch.tensor(left)] if left else None
    return towers.double() if case.get("double") else towers, batches


def gradients(cases: list[Case]) -> list[dict[str, Any]]:
    """Each case's loss and gradients after two steps, after the first of which DDP rebuilds its buckets.

    A case: towers, options, lacking, chunk, and the `first` rank's rows (the rest are the second's). With `kept`, also
    the mean over ranks of the gradients with graphs kept, which DDP must reproduce.
    """
    world = World.current()
    found = []
    for case in cases:
        towers, batches = whole(case)
        seen = looks(towers, {node: _mine(batch, world, case.get("first", 4)) for node, batch in batches.items()})
        wrapped: Any = towers
        reductions: list[int] = []
        options: dict[str, Any] = {}
        if world.size > 1:
            wrapped = nn.parallel.DistributedDataParallel(towers, broadcast_buffers=False)
            wrapped.register_comm_hook(reductions, _counted)
            options = {"no_sync": wrapped.no_sync}
        for _ in range(2):
            outcome, grads = step(towers, seen, case.get("chunk"), wrapped=wrapped, **options)
        entry = {"loss": outcome.loss.item(), "grads": {k: g.tolist() for k, g in grads.items()}}
        if case.get("kept"):
            _, own = kept(towers, seen, case["chunk"])
            entry["mean"] = {name: (world.sum(g) / world.size).tolist() for name, g in own.items()}
        found.append({**entry, "reductions": len(reductions)})
    return found


def _counted(reductions, bucket):  # type: ignore[no-untyped-def]  # DDP does not read annotations that are strings
    reductions.append(1)
    return allreduce_hook(None, bucket)


def _mine(batch: Batch | None, world: World, first: int) -> Batch | None:
    if batch is None or world.size == 1:
        return batch
    part = batch[(batch.row < first) if world.rank == 0 else (batch.row >= first)]
    return part if len(part) else None


def statistics(counts: list[int]) -> dict[str, Any]:
    """Running statistics of a BatchNorm on each rank before and after they are averaged, and of a frozen one."""
    world = World.current()
    towers = Towers({"a": Built(net=lambda: nn.BatchNorm1d(6), width=6)}, [Pair("a", "a", InfoNCE(0.3))], Head(dim=7))
    x = torch.randn(counts[world.rank], 6, generator=torch.Generator().manual_seed(world.rank))
    step(towers, looks(towers, {"a": Batch({"x": x})}), 2)
    norm: Any = towers.encoders["a"].net
    before = [norm.running_mean.tolist(), norm.running_var.tolist(), norm.num_batches_tracked.item()]
    average_statistics(towers, world)
    after = [norm.running_mean.tolist(), norm.running_var.tolist(), norm.num_batches_tracked.item()]
    norm.eval()
    norm.running_mean.fill_(world.rank)
    average_statistics(towers, world)
    return {"before": before, "after": after, "frozen": norm.running_mean.tolist()}


def trained_in_chunks(data: list[dict[str, Any]], chunk: int | None, precision: str | None = None) -> dict[str, Any]:
    """Weights after a few clipped steps of a trainer."""
    terms = [Pair("a", "b", InfoNCE(0.2, learnable=True)), Pair("a", "a", weight=0.5)]
    train = Train(batch_size=9, steps=4, lr=0.1, chunk_size=chunk, mixed_precision=precision)  # type: ignore[arg-type]
    optim = Optim(name="sgd", clip=0.5, warmup=0)
    trainer = Trainer({"a": Vectors(), "b": Vectors(width=6)}, terms, data, train=train, optim=optim)
    trainer.fit()
    return {name: p.detach().tolist() for name, p in trainer.towers.named_parameters()}


def agreed(free: list[float]) -> list[Any]:
    """The chunk size that ranks with unequal memory agree on, and their error if one has none."""
    world = World.current()
    found: list[Any] = []
    for share in (1.0, 0.0):
        multicl.training.chunk_size.free_memory = lambda share=share: int(
            free[world.rank] * (share if world.rank else 1.0)
        )
        train = Train(batch_size=32, steps=1, chunk_size="auto")
        trainer = Trainer({"a": Vectors(dropout=0.1)}, [Pair("a", "a")], rows(32), train=train)
        try:
            trainer.fit()
            found.append(trainer.chunk.size)
        except InputError as error:
            found.append(str(error))
    return found


def everything(cases: list[Case], counts: list[int], data: list[dict[str, Any]], free: list[float]) -> dict[str, Any]:
    """All of the above in one start of the processes."""
    return {
        "gradients": gradients(cases),
        "statistics": statistics(counts),
        "trained": [trained_in_chunks(data, chunk, p) for chunk in (None, 2) for p in (None, "bf16")],
        "agreed": agreed(free),
    }
