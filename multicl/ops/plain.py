"""The plain form of `contrast`: the whole matrix and plain autograd, the reference that other forms are tested against.

Differentiable twice; memory is local rows x keys of all ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from multicl.distributed import World
from multicl.ops.relation import Extra, Relation, Side, Stats, Sums, related


def contrast(
    a: Tensor,
    b: Tensor | None,
    scale: Tensor,
    relation: Relation,
    extra_a: Sequence[Extra] = (),
    extra_b: Sequence[Extra] = (),
    tilts: Sequence[float] = (1.0,),
    positives_in_sum: bool = True,
    both: bool = True,
    world: World | None = None,
) -> Stats:
    """As `multicl.ops.contrast.contrast`, in float64 for float64 input."""
    world = world or World.current()
    kind = torch.promote_types(a.dtype, torch.float32)
    a = a.to(kind)
    how = (relation.equal_ids, tilts, positives_in_sum, world)
    if b is None:
        return Stats(_sums(a, a, scale, relation.a, relation.a, extra_a, *how, symmetric=True), None)
    b = b.to(kind)
    forth = _sums(a, b, scale, relation.a, relation.b, extra_a, *how)
    return Stats(forth, _sums(b, a, scale, relation.b, relation.a, extra_b, *how) if both else None)


def _sums(
    queries: Tensor,
    keys: Tensor,
    scale: Tensor,
    query: Side,
    key: Side,
    extras: Sequence[Extra],
    equal_ids: Literal["positive", "ignore"],
    tilts: Sequence[float],
    positives_in_sum: bool,
    world: World,
    symmetric: bool = False,
) -> Sums:
    scale = scale.to(queries.dtype)
    logits = scale * (queries @ world.gather(keys).T)  # [N, K]
    row, id_ = world.gather(key.row), world.gather(key.id)
    positive, ignored = _masks(query, Side(row, id_), equal_ids, "positive")
    if symmetric:
        start = sum(world.counts(len(queries), queries.device)[: world.rank])
        at = torch.arange(len(queries), device=queries.device)
        positive[at, start + at], ignored[at, start + at] = False, True
    for extra in extras:
        more, neither = _masks(query, Side(extra.row, extra.id), equal_ids, extra.same_row)
        logits = torch.cat([logits, scale * (queries @ extra.z.to(queries.dtype).T)], 1)
        positive, ignored = torch.cat([positive, more], 1), torch.cat([ignored, neither], 1)
    summed = ~ignored if positives_in_sum else ~ignored & ~positive
    empty = ~summed.any(1)  # log of an empty sum: give 0 and no gradient rather than -inf and NaN
    tilted = [(tilt * logits).masked_fill(~summed, -torch.inf).masked_fill(empty[:, None], 0.0) for tilt in tilts]
    lse = torch.stack([torch.logsumexp(x, 1).masked_fill(empty, 0.0) for x in tilted])
    return Sums(lse, logits.masked_fill(~positive, 0.0).sum(1), positive.sum(1).to(logits.dtype))


def _masks(
    query: Side, key: Side, equal_ids: Literal["positive", "ignore"], own_row: Literal["positive", "ignore", "negative"]
) -> tuple[Tensor, Tensor]:
    none = torch.zeros(len(query.id), len(key.id), dtype=torch.bool, device=query.id.device)
    positive, ignored = related(query, key, equal_ids, own_row)
    return none.clone() if positive is None else positive, none if ignored is None else ignored
