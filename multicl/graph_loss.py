"""The loss of a whole graph on one step's embeddings, and where it pulls: dL/dz of every view, dL/dtheta of objectives.

Pairs, and the calls of a pair, are differentiated in list order, so that every rank enters every collective in the same
order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from multicl.distributed import World
from multicl.looks import Look
from multicl.memory import Memory
from multicl.monitors import Compared, sample
from multicl.pairs import Call, Pair, View, negatives_view
from multicl.towers import Embeddings, Towers
from multicl.types import Context, Embedded, Extra


class Ids(Protocol):
    """What rows are about."""

    def __call__(self, pair: Pair, row: Tensor, negatives: bool = False) -> Tensor:
        """[B] rows -> [B] int64 ids; `negatives`: of the explicit negatives that the rows bring."""
        ...


class Contexts(Protocol):
    """What objectives may know."""

    def __call__(self, pair: Pair, call: Call) -> Context:
        """The context of one call of a pair, without extra keys."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What a step tells: the loss, and for each pair what its objective logs, as scalars on the device."""

    loss: Tensor
    logged: dict[str, dict[str, Tensor]]
    compared: dict[str, list[Compared]] = field(default_factory=dict)
    """Of each pair some rows as they were compared, for the monitors; empty unless asked for."""


@dataclass(frozen=True)
class Contrasted:
    """The loss of all pairs and where it pulls."""

    outcome: Outcome
    grads: Embeddings
    """dL/dz of each view and space."""
    own: list[tuple[nn.Parameter, Tensor]]
    """The objectives' parameters with their gradients."""


@dataclass(frozen=True)
class Sides:
    """A step's embeddings as pairs see them."""

    embedded: Embeddings
    rows: Mapping[View, Tensor]
    """View -> [B] its rows."""
    ids: Ids
    keys: Embeddings = field(default_factory=dict)
    """What momentum towers gave."""

    def of(self, pair: Pair, view: View, momentum: bool = False, negatives: bool = False) -> Embedded:
        """A view in the pair's space."""
        z, row = (self.keys if momentum else self.embedded)[view, pair.space], self.rows[view]
        return Embedded(z, row.to(z.device), self.ids(pair, row, negatives).to(z.device))


def graph_loss(
    towers: Towers, sides: Sides, contexts: Contexts, memory: Memory | None = None, sampled: int = 0
) -> Contrasted:
    """The weighted sum of the pairs' losses, and its gradients.

    Args:
        memory: gives queues' keys, and gets this step's once their pair's loss is known.
        sampled: so many rows of each view stay in the outcome.
    """
    leaves = {key: z.detach().requires_grad_() for key, z in sides.embedded.items() if key[1] is not None}
    grads = {key: torch.zeros_like(z) for key, z in leaves.items()}
    own = [(p, torch.zeros_like(p)) for p in towers.objectives.parameters() if p.requires_grad]
    wanted = [*leaves.values(), *(p for p, _ in own)]
    sums = [*grads.values(), *(grad for _, grad in own)]
    sides = replace(sides, embedded=leaves)
    logged: dict[str, dict[str, Tensor]] = {}
    compared: dict[str, list[Compared]] = {}
    total = torch.zeros((), device=towers.device)
    for pair in towers.terms:
        told: dict[str, Tensor] = {}
        for call in pair.calls:
            a, b = sides.of(pair, call.a), sides.of(pair, call.b, call.momentum)
            if pair.keys_from == "both":
                a, b = _both(a, b)
            compared.setdefault(pair.name, []).extend(sample(call, a, b, sampled))
            context = _with_extras(contexts(pair, call), pair, call, sides, memory)
            values = towers.objectives[pair.name](a, b, context)
            found = torch.autograd.grad(pair.weight * call.weight * values["loss"], wanted, allow_unused=True)
            for mine, grad in zip(sums, found, strict=True):
                if grad is not None:
                    mine += grad
            for name, value in values.items():
                told[name] = told.get(name, 0) + call.weight * value.detach()
        if memory is not None:
            memory.push(pair, lambda view, pair=pair: sides.of(pair, view, pair.keys == "momentum"))  # type: ignore[misc]
        logged[pair.name] = told
        total += pair.weight * told["loss"]
    return Contrasted(Outcome(total, logged, compared), grads, own)


def rows_of(looks: Sequence[Look]) -> dict[View, Tensor]:
    """View -> [B] its rows on this rank."""
    none = torch.zeros(0, dtype=torch.int64)
    return {reader.view: none if look.batch is None else look.batch.row for look in looks for reader in look.readers}


def _with_extras(context: Context, pair: Pair, call: Call, sides: Sides, memory: Memory | None) -> Context:
    """The context with the queues' keys and the explicit negatives of all ranks."""
    extra_a, extra_b = memory.extras(pair, call) if memory is not None else ((), ())
    if pair.negatives and call.a.node == pair.a:
        extra_a = (*extra_a, _gathered(sides.of(pair, negatives_view(pair), negatives=True), context.world))
    return replace(context, extra_a=extra_a, extra_b=extra_b)


def _gathered(negatives: Embedded, world: World) -> Extra:
    z, row, ids = (world.gather(x) for x in (negatives.z, negatives.row, negatives.id))
    return Extra(z, row, ids, same_row="negative")


def _both(a: Embedded, b: Embedded) -> tuple[Embedded, Embedded]:
    """The rows that both sides have."""
    if a.row.shape == b.row.shape and torch.equal(a.row, b.row):
        return a, b
    return a[torch.isin(a.row, b.row)], b[torch.isin(b.row, a.row)]
