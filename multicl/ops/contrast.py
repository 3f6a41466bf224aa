"""contrast: the one op behind every soft-max contrastive objective.

It returns statistics of each row (log-sum-exp, sum over positives, number of positives); losses are plain autograd on
those vectors. Logits exist one tile at a time (only small blocks keep theirs for backward), and both directions come
from one pass over them.

Across ranks: keys are all-gathered once; each rank walks its own rows against all keys; column sums are all-reduced;
one reduce-scatter returns the keys' gradients to their ranks. In a symmetric matrix, rank r walks its own block and
those of the next ranks, half-way round the ring, so that each entry is computed once.

Dimensions: Na, Nb local rows of the two sides; Ka, Kb rows of all ranks; X extra keys; D width; T tilts.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from multicl.distributed import World
from multicl.ops import fused
from multicl.ops.blocks import Block
from multicl.ops.once import once
from multicl.ops.relation import Extra, Relation, Side, Stats, Sums
from multicl.ops.running import NARROW
from multicl.ops.uncompiled import uncompiled

__all__ = ["Extra", "Relation", "Side", "Stats", "Sums", "contrast"]
ROWS = 16384
"""Rows whose products `_inner` holds at a time."""


@uncompiled
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
    unit: bool = False,
    known_scale: float | None = None,
    low: bool | None = None,
    world: World | None = None,
) -> Stats:
    """Row statistics of the logits scale * a @ b^T over the rows of all ranks.

    Args:
        a: [Na, D] this rank's rows, unit vectors for cosine similarity. b: [Nb, D], or None: a symmetric matrix of a's
            rows against each other, self left out.
        scale: one element, 1 / temperature; may want a gradient. The same on every rank.
        relation: rows and ids of both sides (where b is None, pass a's twice).
        extra_a: more keys for a's rows. extra_b: for b's.
        tilts: factors of the logits in the sums, 0 or more (hard-negative weights need exp((1 + beta) * logit) too).
        positives_in_sum: False leaves positives out of the sums (DCL, arXiv:2110.06848).
        both: also compute the sums of b's rows over a's keys; False: Stats.b is None.
        unit: all rows, extra keys included, are known to be unit vectors or zero, so that no logit exceeds the scale.
        known_scale: the scale's value, where it is known: reading the tensor would synchronise with the GPU.
        low: allow bf16 products on a GPU; default: for bf16 or half rows, and for all rows under autocast.
        world: default: the current process group.

    Returns:
        Stats, float32 at least, also under autocast. Gradients flow to a, b, scale and extras. Each rank's backward
        gives its share of the sum over ranks; the keys' gradients are summed on the ranks that own them. They cannot
        be differentiated again (RuntimeError): `multicl.ops.plain` allows it.
    """
    assert min(tilts) >= 0, f"tilts must be 0 or more, got {tilts}"
    world = world or World.current()
    form = form_of(a, tilts, low)
    with torch.autocast(a.device.type, enabled=False):  # bf16 logits at scale 100 are wrong by 0.3
        kind = torch.promote_types(a.dtype, torch.float32)
        extras = [("a", extra) for extra in extra_a]
        extras += [("b", extra) for extra in extra_b if both and b is not None]
        rows = (
            z if z is None or form.reads(z.dtype) else z.to(kind) for z in (a, b, *(extra.z for _, extra in extras))
        )
        call = _Call(relation, tuple(extras), tuple(tilts), positives_in_sum, both, unit, known_scale, world, form)
        found = _Contrast.apply(call, next(rows), next(rows), scale.to(kind), *rows)  # type: ignore[no-untyped-call]
    sides = [Sums(*found[at : at + 3]) for at in range(0, len(found), 3)]
    return Stats(sides[0], sides[1] if len(sides) > 1 else None)


def form_of(a: Tensor, tilts: Sequence[float] = (1.0,), low: bool | None = None) -> fused.Form:
    """The form in which `contrast` walks blocks of such rows; arguments as there."""
    if low is None:
        low = is_low(a.dtype) or torch.is_autocast_enabled(a.device.type)
    return fused.form(a.device, torch.promote_types(a.dtype, torch.float32), tilts, low)


def is_low(kind: torch.dtype) -> bool:
    """Whether a dtype is bf16 or half."""
    return kind in (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class _Call:
    """The arguments of one call, but for the tensors that may want gradients."""

    relation: Relation
    extras: tuple[tuple[str, Extra], ...]
    """Each with the side whose rows it is for, "a" or "b"."""
    tilts: tuple[float, ...]
    positives_in_sum: bool
    both: bool
    unit: bool
    known_scale: float | None
    world: World
    form: fused.Form


class _Walk(NamedTuple):
    """A block, and whose rows it holds: this rank's "a" or "b", all ranks' "keys", or extra keys of that number."""

    block: Block
    x: str
    y: str | int
    y_at: slice = slice(None)
    """Which rows of "keys"."""

    def emptied(self) -> tuple[_Walk, list[Tensor]]:
        """Itself without its large tensors, and these: queries, keys and, where tiles are kept, their logits."""
        block, none = self.block, self.block.x.new_empty(0)
        kept = [tile._replace(logits=none) for tile in block.kept]
        held = [block.x, block.y, *(tile.logits for tile in block.kept)]
        return self._replace(block=replace(block, x=none, y=none, kept=kept)), held

    def filled(self, held: Iterator[Tensor]) -> _Walk:
        """Itself with the tensors that `emptied` took out, which come next in `held`."""
        x, y = next(held), next(held)
        kept = [tile._replace(logits=next(held)) for tile in self.block.kept]
        return self._replace(block=replace(self.block, x=x, y=y, kept=kept))


class _Contrast(torch.autograd.Function):
    """The rows of the statistics: all ranks' in a symmetric matrix, else this rank's a followed by all ranks' b."""

    @staticmethod
    def forward(
        ctx: Any, call: _Call, a: Tensor, b: Tensor | None, scale: Tensor, *extras: Tensor
    ) -> tuple[Tensor, ...]:
        world, mine = call.world, a if b is None else b
        counts = world.counts(len(mine), mine.device)
        rows = None if call.unit else (a, b, *extras)
        wide = not bound(rows, scale, call.known_scale, world) * max(call.tilts) <= NARROW  # NaN is wide, too
        before = 0 if b is None else len(a)
        shared = slice(before, before + sum(counts))
        start = before + sum(counts[: world.rank])
        own = [slice(start, start + len(mine))]
        if b is not None:
            own = [slice(0, before), *own][: 1 + call.both]
        size = shared.stop if b is None or call.both else before
        running = call.form.running(size, call.tilts, call.positives_in_sum, wide, scale)
        walks = _walks(call, a, b, scale, extras, counts, shared.start)
        for walk in walks:
            call.form.forward(walk.block, running)
        if b is None or call.both:
            running.sum_over_ranks(shared, world)
        ctx.walks, held = zip(*(walk.emptied() for walk in walks), strict=True)
        ctx.save_for_backward(a, b, scale, *extras, *itertools.chain(*held))  # freed by backward; ctx may live on
        ctx.call, ctx.running, ctx.counts, ctx.own = call, running, counts, own
        lse = running.lse()
        found = [(lse[:, at], running.positive[at], running.count[at]) for at in own]
        ctx.mark_non_differentiable(*(sums[2] for sums in found))
        ctx.set_materialize_grads(False)  # counts have no gradient, and zeros would cost launches
        return tuple(value for sums in found for value in sums)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # torch.utils.checkpoint lets them be read only once
        given = len(ctx.needs_input_grad) - 1
        with torch.no_grad():
            found = _Contrast._backward(ctx, saved[:given], iter(saved[given:]), grads)
        wants = next(z for z in saved[:given] if z is not None and z.requires_grad)
        return once(found, wants, "multicl.ops.plain.contrast can be")

    @staticmethod
    def _backward(
        ctx: Any, given: Sequence[Tensor], held: Iterator[Tensor], grads: Sequence[Tensor | None]
    ) -> tuple[Tensor | None, ...]:
        call, counts, world = ctx.call, ctx.counts, ctx.call.world
        a, b, scale, *extras = given
        walks = [walk.filled(held) for walk in ctx.walks]
        _, wants_a, wants_b, wants_scale, *wants_extras = ctx.needs_input_grad
        sizes = [own.stop - own.start for own in ctx.own]  # a loss may use only one of the two
        lse = [scale.new_zeros(len(call.tilts), n) if z is None else z for z, n in zip(grads[::3], sizes, strict=True)]
        positive = [scale.new_zeros(n) if z is None else z for z, n in zip(grads[1::3], sizes, strict=True)]
        if world.size > 1 and (b is None or call.both):
            every = world.all_rows(torch.cat([lse[-1], positive[-1][None]]).T.contiguous(), counts).T
            lse[-1], positive[-1] = every[:-1], every[-1]
        slopes = ctx.running.slopes(lse, positive)
        wanted: dict[str | int, bool] = dict(enumerate(wants_extras))
        wanted["keys"] = wants_a if b is None else wants_b
        home: dict[str | int, Tensor] = {}
        d_scale: Tensor | None = None
        for block, x, y, y_at in walks:
            dx, dy = call.form.backward(block, slopes, block.symmetric or wanted[y])
            if wants_scale:
                share = _inner(b if x == "b" else a, dx)
                share = share / 2 if block.symmetric else share
                d_scale = share if d_scale is None else d_scale + share
            dx *= scale
            home[x] = home[x].add_(dx) if x in home else dx
            if y == "keys" and world.size > 1 and wanted[y]:
                every = home.setdefault("keys", dy.new_zeros(sum(counts), dy.shape[1]))
                if not block.symmetric:
                    every[y_at] += dy
            elif not block.symmetric and wanted[y]:
                home["b" if y == "keys" else y] = home["b"].add_(dy) if y == "keys" and "b" in home else dy
        if "keys" in home:
            mine = "a" if b is None else "b"
            dy = world.sum_home(home["keys"], counts)
            home[mine] = home[mine].add_(dy) if mine in home else dy
        if d_scale is not None:
            d_scale = d_scale.to(scale.dtype).view_as(scale)
        return None, home.get("a"), home.get("b"), d_scale, *(home.get(number) for number in range(len(extras)))


def _walks(
    call: _Call,
    a: Tensor,
    b: Tensor | None,
    scale: Tensor,
    extras: Sequence[Tensor],
    counts: Sequence[int],
    before: int,
) -> list[_Walk]:
    """The blocks that this rank walks; in the statistics, all ranks' rows come after `before` others."""
    world, relation, equal_ids = call.world, call.relation, call.relation.equal_ids
    side = relation.a if b is None else relation.b
    key = Side(world.all_rows(side.row, counts), world.all_rows(side.id, counts))
    keys = world.all_rows(a if b is None else b, counts)
    start = before + sum(counts[: world.rank])
    x, keys = call.form.queries(a.detach(), scale.detach()), call.form.keys(keys)
    walks = []
    if b is None:
        for at, rank in _half_way_round(world, counts):
            part = Side(key.row[at], key.id[at])
            own = rank == world.rank
            block = Block(x, keys[at], relation.a, part, equal_ids, rows=start, columns=at.start, symmetric=own)
            walks.append(_Walk(block, "a", "keys", at))
    else:
        block = Block(x, keys, relation.a, key, equal_ids, columns=before if call.both else None)
        walks.append(_Walk(block, "a", "keys"))
    for number, ((name, extra), z) in enumerate(zip(call.extras, extras, strict=True)):
        of_b = name == "b" and b is not None
        queries = call.form.queries(b.detach(), scale.detach()) if of_b and b is not None else x
        query, rows = (relation.b, start) if of_b else (relation.a, start if b is None else 0)
        key = Side(extra.row, extra.id)
        block = Block(queries, call.form.keys(z.detach()), query, key, equal_ids, extra.same_row, rows)
        walks.append(_Walk(block, name, number))
    return walks


def _half_way_round(world: World, counts: Sequence[int]) -> Iterator[tuple[slice, int]]:
    """Yield the rows and ranks that this rank meets: itself and the next half of the ring, so any two meet once."""
    for step in range(world.size // 2 + 1):
        rank = (world.rank + step) % world.size
        if 2 * step == world.size and rank < world.rank:
            continue  # opposite each other in the ring: the lower one does it
        yield slice(sum(counts[:rank]), sum(counts[: rank + 1])), rank


def _inner(x: Tensor, y: Tensor) -> Tensor:
    """sum_ij x_ij y_ij; row sums are added in float64, and many rows are split, so that the products fit in memory."""
    if len(x) <= ROWS:
        return (x * y).sum(1).sum(dtype=torch.float64)
    return torch.stack([_inner(*each) for each in zip(x.split(ROWS), y.split(ROWS), strict=True)]).sum()


def bound(rows: Iterable[Tensor | None] | None, scale: Tensor, known_scale: float | None, world: World) -> float:
    """An upper bound on the size of any logit of these rows, on any rank; rows None: of unit vectors."""
    longest = 1.0
    if rows is not None:
        kind = scale.dtype  # for bf16 rows, too: a rounded norm may be too small for a bound
        norms = [
            torch.linalg.vector_norm(z.detach(), dim=1, dtype=kind).max() for z in rows if z is not None and len(z)
        ]
        most = functools.reduce(torch.maximum, norms) if norms else scale.new_zeros(())
        longest = float(world.max(most))
    return abs(float(scale) if known_scale is None else known_scale) * longest * longest
