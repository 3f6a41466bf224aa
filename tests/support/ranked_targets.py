"""A graph with a target on the rows of one rank, for `run_ranks`; in a world of one, on all rows."""

from __future__ import annotations

from typing import Any

from steps import Ids, cells, looks
from torch import Tensor, nn
from toys import Vectors

from multicl import Head, InfoNCE, Pair, Target
from multicl.distributed import World
from multicl.graph import Term
from multicl.pairs import Call
from multicl.seeds import seed_everything
from multicl.towers import Towers
from multicl.training.step import exact_step
from multicl.types import Batch, Context

PAIR = Pair("a", "a", InfoNCE(0.3))
TARGET = Target("a", "label", weight=0.7, classes=("x", "y", "z"))


class Labelled(Ids):
    """Two rows of the first four have no label, and all but one of the others."""

    def __call__(self, term: Term, row: Tensor, negatives: bool = False) -> Tensor:
        if isinstance(term, Target):
            return row.new_tensor([0, -1, 2, -1, -1, 1, -1, -1])[row]
        return super().__call__(term, row, negatives)


def outcomes(cases: list[tuple[int, int | None, bool]]) -> list[dict[str, Any]]:
    """Loss, logged values and DDP's gradients of each (rows of rank 0, chunk, with a pair)."""
    world, found = World.current(), []
    for first, chunk, paired in cases:
        seed_everything("test")
        towers = Towers({"a": Vectors()}, [PAIR, TARGET] if paired else [TARGET], Head(dim=7))
        batch: Batch | None = cells(towers)["a"]
        assert batch is not None
        wrapped: Any = towers
        options: dict[str, Any] = {}
        if world.size > 1:
            batch = batch[(batch.row < first) == (world.rank == 0)]
            batch = batch if len(batch) else None
            wrapped = nn.parallel.DistributedDataParallel(towers, broadcast_buffers=False)
            options = {"no_sync": wrapped.no_sync}
        outcome = exact_step(
            wrapped, towers, looks(towers, {"a": batch}), Labelled(), context, Tensor.backward, chunk, **options
        )
        grads = {name: p.grad.tolist() for name, p in towers.named_parameters() if p.grad is not None}
        logged = {name: value.item() for name, value in outcome.logged["a-label"].items()}
        found.append({"loss": outcome.loss.item(), "logged": logged, "grads": grads})
    return found


def context(term: Term, call: Call | None) -> Context:
    """Both views are draws of one node."""
    return Context(World.current(), symmetric=call is not None)
