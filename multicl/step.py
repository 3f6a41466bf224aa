"""One step: embed every view, contrast all pairs at once, send the gradient home through the encoders.

The loss is differentiated with respect to the embeddings and to the objectives' own parameters first, in float32 and
unscaled, pair after pair in list order, so that every rank enters every collective in the same order. The encoders then
see one surrogate, sum <z, dL/dz>, and DDP reduces once over all towers.

With a chunk size the encoders see a few rows at a time, and the loss still sees all of them: equal to the whole batch
where there is neither dropout nor BatchNorm, and always equal to the same chunks with their graphs kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from multicl.chunks import cut
from multicl.looks import Look
from multicl.pairs import Call, Pair, View
from multicl.replay import NoSync, embed, replay, surrogate
from multicl.towers import Embeddings, Towers
from multicl.types import Context, Embedded

Ids = Callable[[Pair, Tensor], Tensor]
"""(pair, [B] rows) -> [B] int64 ids."""


@dataclass(frozen=True)
class Outcome:
    """What a step tells: the loss, and for each pair what its objective logs, as scalars on the device."""

    loss: Tensor
    logged: dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Contrasted:
    """The loss of all pairs and where it pulls."""

    outcome: Outcome
    grads: Embeddings
    """dL/dz of each view and space."""
    own: list[tuple[nn.Parameter, Tensor]]
    """The objectives' parameters with their gradients."""


def exact_step(
    wrapped: nn.Module,
    towers: Towers,
    looks: Sequence[Look],
    ids: Ids,
    context: Callable[[Pair, Call], Context],
    backward: Callable[[Tensor], None],
    chunk: int | None = None,
    no_sync: NoSync = nullcontext,
) -> Outcome:
    """Forward and backward of all pairs; gradients are added to the parameters' `.grad`.

    Args:
        wrapped: `towers` as Accelerate prepared it (autocast, DDP). looks: every view of this rank's rows.
        ids: what rows are about, for each pair. context: of each call of a pair. backward: Accelerate's (it scales for fp16).
        chunk: rows that encoders see at once; None: all, and nothing is computed twice. Either None on every rank or
            on none of them: DDP's own collectives come before the loss's in the one case, after them in the other.
        no_sync: DDP's, of `wrapped`.
    """
    if chunk is None:
        embedded = wrapped([request for look in looks for request in look.requests()])
    else:
        chunks = [part for look in looks for part in cut(look, chunk)]
        embedded = embed(towers, looks, chunks)
    found = contrast_all(towers, embedded, _rows(looks), ids, context)
    trained = [p for p in towers.parameters() if p.requires_grad]
    rest: Tensor = _Reached.apply(*trained)  # type: ignore[no-untyped-call]
    for p, grad in found.own:
        rest = rest + (p * grad).sum()
    if chunk is None:
        backward(rest + surrogate(embedded, found.grads))
    else:
        replay(wrapped, towers, chunks, embedded, found.grads, rest, backward, no_sync)
    for p in trained:
        if p.grad is None:  # as DDP leaves it: an optimiser passes over what has no gradient at all
            p.grad = torch.zeros_like(p)
    return found.outcome


def contrast_all(
    towers: Towers,
    embedded: Embeddings,
    rows: Mapping[View, Tensor],
    ids: Ids,
    context: Callable[[Pair, Call], Context],
) -> Contrasted:
    """The pairs' losses on all embeddings, and the gradients of their weighted sum."""
    leaves = {key: z.detach().requires_grad_() for key, z in embedded.items() if key[1] is not None}
    grads = {key: torch.zeros_like(z) for key, z in leaves.items()}
    own = [(p, torch.zeros_like(p)) for p in towers.objectives.parameters() if p.requires_grad]
    logged: dict[str, dict[str, Tensor]] = {}
    total = torch.zeros((), device=towers.device)
    wanted = [*leaves.values(), *(p for p, _ in own)]
    sums = [*grads.values(), *(grad for _, grad in own)]
    for pair in towers.terms:
        values: dict[str, Tensor] = {}
        for call in pair.calls:
            a, b = (_side(pair, leaves[view, pair.space], rows[view], ids) for view in (call.a, call.b))
            if pair.keys_from == "both":
                a, b = _both(a, b)
            told = towers.objectives[pair.name](a, b, context(pair, call))
            found = torch.autograd.grad(pair.weight * call.weight * told["loss"], wanted, allow_unused=True)
            for mine, grad in zip(sums, found, strict=True):
                if grad is not None:
                    mine += grad
            for name, value in told.items():
                values[name] = values.get(name, 0) + call.weight * value.detach()
        logged[pair.name] = values
        total += pair.weight * values["loss"]
    return Contrasted(Outcome(total, logged), grads, own)


class _Reached(torch.autograd.Function):
    """Zero, by way of every parameter: DDP counts them all as done, and no tensor of zeros is made for each."""

    @staticmethod
    def forward(ctx: Any, *parameters: Tensor) -> Tensor:
        return torch.zeros((), device=parameters[0].device)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, ...]:
        return (None,) * len(ctx.needs_input_grad)


def _rows(looks: Sequence[Look]) -> dict[View, Tensor]:
    none = torch.zeros(0, dtype=torch.int64)
    return {reader.view: none if look.batch is None else look.batch.row for look in looks for reader in look.readers}


def _side(pair: Pair, z: Tensor, row: Tensor, ids: Ids) -> Embedded:
    return Embedded(z, row.to(z.device), ids(pair, row).to(z.device))


def _both(a: Embedded, b: Embedded) -> tuple[Embedded, Embedded]:
    """The rows that both sides have."""
    if a.row.shape == b.row.shape and torch.equal(a.row, b.row):
        return a, b
    return a[torch.isin(a.row, b.row)], b[torch.isin(b.row, a.row)]
