"""One step: embed every view, contrast all pairs at once, send the gradient home through the encoders.

The loss is differentiated with respect to the embeddings and to the objectives' own parameters first, in float32 and
unscaled, pair after pair in list order, so that every rank enters every collective in the same order. The encoders then
see one surrogate, sum <z, dL/dz>, and DDP reduces once over all towers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from multicl.pairs import Pair, View
from multicl.towers import Request, Towers
from multicl.types import Context, Embedded

Ids = Callable[[Pair, Tensor], Tensor]
"""(pair, [B] rows) -> [B] int64 ids."""


@dataclass(frozen=True)
class Outcome:
    """What a step tells: the loss, and for each pair what its objective logs, as scalars on the device."""

    loss: Tensor
    logged: dict[str, dict[str, Tensor]]


def exact_step(
    wrapped: nn.Module,
    towers: Towers,
    requests: list[Request],
    ids: Ids,
    context: Callable[[Pair], Context],
    backward: Callable[[Tensor], None],
) -> Outcome:
    """Forward and backward of all pairs; gradients are added to the parameters' `.grad`.

    Args:
        wrapped: `towers` as Accelerate prepared it (autocast, DDP). requests: every view of this rank's rows.
        ids: what rows are about, for each pair. context: of each pair. backward: Accelerate's (it scales for fp16).
    """
    embedded: Mapping[tuple[View, str], Tensor] = wrapped(requests)
    rows = {view: batch.row if batch is not None else None for view, batch, _, _ in requests}
    leaves = {key: z.detach().float().requires_grad_() for key, z in embedded.items()}
    theta = [p for p in towers.objectives.parameters() if p.requires_grad]
    grads = {key: torch.zeros_like(z) for key, z in leaves.items()}
    grads_theta = [torch.zeros_like(p) for p in theta]
    logged: dict[str, dict[str, Tensor]] = {}
    total = torch.zeros((), device=next(towers.parameters()).device)
    for pair in towers.terms:
        sides = [_side(view, pair, leaves, rows, ids) for view in pair.views]
        a, b = _both(*sides)
        values = towers.objectives[pair.name](a, b, context(pair))
        keys = [(view, pair.space) for view in pair.views]
        wanted = [leaves[key] for key in keys] + theta
        found = torch.autograd.grad(pair.weight * values["loss"], wanted, allow_unused=True, materialize_grads=True)
        for key, grad in zip(keys, found[:2], strict=True):
            grads[key] += grad
        for mine, grad in zip(grads_theta, found[2:], strict=True):
            mine += grad
        logged[pair.name] = {name: value.detach() for name, value in values.items()}
        total += pair.weight * values["loss"].detach()
    surrogate: Any = sum((embedded[key] * grads[key]).sum() for key in embedded)
    surrogate = surrogate + sum((p * g).sum() for p, g in zip(theta, grads_theta, strict=True))
    # Every parameter takes part, so that DDP never waits for one whose modality this rank lacks.
    surrogate = surrogate + 0.0 * sum(p.flatten()[0] for p in towers.parameters() if p.requires_grad)
    backward(surrogate)
    return Outcome(total, logged)


def _side(
    view: View,
    pair: Pair,
    leaves: Mapping[tuple[View, str], Tensor],
    rows: Mapping[View, Tensor | None],
    ids: Ids,
) -> Embedded:
    z = leaves[view, pair.space]
    row = rows[view]
    if row is None:
        row = torch.zeros(0, dtype=torch.int64, device=z.device)
    return Embedded(z, row, ids(pair, row))


def _both(a: Embedded, b: Embedded) -> tuple[Embedded, Embedded]:
    """The rows that both sides have."""
    if a.row.shape == b.row.shape and torch.equal(a.row, b.row):
        return a, b
    return a[torch.isin(a.row, b.row)], b[torch.isin(b.row, a.row)]
