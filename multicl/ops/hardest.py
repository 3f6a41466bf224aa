"""Row statistics over the positives and the k most similar negatives of each row, among the keys of all ranks.

A first pass without gradients walks the similarities a tile at a time and keeps each row's k hardest negatives and its
positives; only the logits of these are then computed with gradients. Memory grows with N * (k + D) and the number of
positives, not with N * K. Each direction takes a pass of its own.

Dimensions: N local rows of a side; K keys of all ranks and extra ones; D width; P positives of all rows; k negatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from multicl.distributed import World
from multicl.ops.nearest import Nearest, tiles
from multicl.ops.once import once
from multicl.ops.relation import Extra, Relation, Side, Stats, Sums, related
from multicl.ops.uncompiled import uncompiled

PAIRS = 2**16
"""Dot products that are computed at once."""


@uncompiled
def contrast_hardest(
    a: Tensor,
    b: Tensor | None,
    scale: Tensor,
    relation: Relation,
    extra_a: Sequence[Extra] = (),
    extra_b: Sequence[Extra] = (),
    *,
    k: int,
    both: bool = True,
    world: World | None = None,
) -> Stats:
    """As `contrast`, but each row's sum holds only its k most similar negatives.

    Args:
        k: 1 or more; where it covers all negatives, the statistics are those of `contrast`. The rest is as there.

    Returns:
        Stats, float32 at least, also under autocast. The choice of negatives has no gradient; through their logits,
        gradients flow to a, b, scale and extras, and those of keys are summed on the ranks that own them. Gradients
        of rows cannot be differentiated again (RuntimeError).
    """
    assert k >= 1, f"k must be 1 or more, got {k}"
    world = world or World.current()
    with torch.autocast(a.device.type, enabled=False):
        kind = torch.promote_types(a.dtype, torch.float32)
        a, b, scale = a.to(kind), None if b is None else b.to(kind), scale.to(kind)
        if b is None:
            start = sum(world.counts(len(a), a.device)[: world.rank])
            parts = [_part_of(a, relation.a, world, start), *map(_part, extra_a)]
            return Stats(_sums(a, relation.a, parts, relation.equal_ids, scale, k), None)
        parts = [_part_of(b, relation.b, world), *map(_part, extra_a)]
        forth = _sums(a, relation.a, parts, relation.equal_ids, scale, k)
        if not both:
            return Stats(forth, None)
        parts = [_part_of(a, relation.a, world), *map(_part, extra_b)]
        return Stats(forth, _sums(b, relation.b, parts, relation.equal_ids, scale, k))


class _Part(NamedTuple):
    """Keys from one source: the other side, or extra ones."""

    z: Tensor
    side: Side
    own_row: Literal["positive", "ignore", "negative"]
    start: int | None = None
    """Not None: the keys are all ranks' queries, of which this rank's begin here, and no query is its own key."""


def _part_of(z: Tensor, side: Side, world: World, start: int | None = None) -> _Part:
    return _Part(world.gather(z), Side(world.gather(side.row), world.gather(side.id)), "positive", start)


def _part(extra: Extra) -> _Part:
    return _Part(extra.z, Side(extra.row, extra.id), extra.same_row)


def _sums(
    queries: Tensor,
    query: Side,
    parts: Sequence[_Part],
    equal_ids: Literal["positive", "ignore"],
    scale: Tensor,
    k: int,
) -> Sums:
    keys = torch.cat([part.z.to(queries.dtype) for part in parts])
    (asks, answers), nearest = _find(queries.detach(), query, parts, keys.detach(), equal_ids, min(k, len(keys)))
    n = len(queries)
    pulled = scale * dots(queries, keys, asks, answers)  # [P]
    rows = torch.arange(n, device=queries.device).repeat_interleave(nearest.places.shape[1])
    pushed = scale * dots(queries, keys, rows, nearest.places.flatten()).view_as(nearest.places)  # [N, k]
    pushed = pushed.masked_fill(~nearest.found, -torch.inf)
    shift = queries.new_full((n,), -torch.inf)
    shift = shift.scatter_reduce(0, torch.cat([asks, rows]), torch.cat([pulled, pushed.flatten()]).detach(), "amax")
    lonely = shift == -torch.inf  # neither positives nor negatives: 0, and no gradient, rather than -inf and NaN
    shift = shift.masked_fill(lonely, 0.0)
    total = (pushed - shift[:, None]).exp().sum(1).index_add(0, asks, (pulled - shift[asks]).exp())
    lse = shift + total.masked_fill(lonely, 1.0).log()
    count = queries.new_zeros(n).index_add_(0, asks, torch.ones_like(asks, dtype=queries.dtype))
    return Sums(lse[None], torch.zeros_like(lse).index_add(0, asks, pulled), count)


@torch.no_grad()
def _find(
    queries: Tensor,
    query: Side,
    parts: Sequence[_Part],
    keys: Tensor,
    equal_ids: Literal["positive", "ignore"],
    k: int,
) -> tuple[tuple[Tensor, Tensor], Nearest]:
    """(row [P], key [P]) of the positives, and the k nearest negatives; keys are numbered through all parts."""
    nearest, places, before = Nearest(queries, k), [], 0
    for _, side, own_row, start in parts:
        for rows, columns in tiles(len(queries), len(side.id), queries.device):
            at = slice(columns.start + before, columns.stop + before)
            similarity = queries[rows] @ keys[at].T
            positive, ignored = related(query[rows], side[columns], equal_ids, own_row)
            if start is not None:
                own = torch.arange(rows.start, rows.stop, device=queries.device)[:, None] + start
                self_ = own == torch.arange(columns.start, columns.stop, device=queries.device)
                similarity[self_] = -torch.inf
                positive = None if positive is None else positive & ~self_
            if positive is not None:
                row, key = positive.nonzero(as_tuple=True)
                places.append((row + rows.start, key + at.start))
                similarity[positive] = -torch.inf
            if ignored is not None:
                similarity[ignored] = -torch.inf
            nearest.add(rows, similarity, at.start)
        before += len(side.id)
    none = torch.zeros(0, dtype=torch.int64, device=queries.device)
    return (torch.cat([none, *(p[0] for p in places)]), torch.cat([none, *(p[1] for p in places)])), nearest


def dots(x: Tensor, y: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """[P] dot products of rows i [P] of x and j [P] of y, without gathering all of these rows at once."""
    return _Dots.apply(x, y, i, j)  # type: ignore[no-any-return,no-untyped-call]


class _Dots(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, i: Tensor, j: Tensor) -> Tensor:
        ctx.save_for_backward(x, y, i, j)
        found = [(x[p] * y[q]).sum(1) for p, q in zip(i.split(PAIRS), j.split(PAIRS), strict=True)]
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, y, i, j = ctx.saved_tensors
        with torch.no_grad():
            dx, dy = (
                torch.zeros_like(z) if wanted else None
                for z, wanted in zip((x, y), ctx.needs_input_grad[:2], strict=True)
            )
            for p, q, slope in zip(i.split(PAIRS), j.split(PAIRS), grads[0].split(PAIRS), strict=True):
                if dx is not None:
                    dx.index_add_(0, p, slope[:, None] * y[q])
                if dy is not None:
                    dy.index_add_(0, q, slope[:, None] * x[p])
        return once((dx, dy, None, None), x if x.requires_grad else y, "InfoNCE by multicl.ops.plain can be")
