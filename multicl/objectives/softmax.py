"""The module that the settings of InfoNCE, NT-Xent, SupCon and HardestNegatives build, and its arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from multicl.distributed import World
from multicl.objectives.distance import aligned
from multicl.objectives.own_key import own_key_nce
from multicl.objectives.temperature import Tempered
from multicl.objectives.tempered import TemperedModule
from multicl.ops.contrast import Relation, Side, Stats, Sums, bound, contrast, form_of
from multicl.ops.direct import direct_loss, is_direct
from multicl.ops.finish import mean_loss
from multicl.ops.fused import Fused
from multicl.ops.hardest import contrast_hardest
from multicl.ops.launch import runs_on
from multicl.ops.running import NARROW
from multicl.ops.uncompiled import uncompiled
from multicl.ops.unit import unit
from multicl.types import Context, Embedded, Extra, InputError


@uncompiled
def mean_nce(
    queries: Tensor,
    keys: Tensor | None,
    scale: Tensor,
    relation: Relation,
    extra_a: Sequence[Extra] = (),
    extra_b: Sequence[Extra] = (),
    *,
    cosine: bool,
    both: bool = True,
    known_scale: float | None = None,
    low: bool | None = None,
    world: World,
) -> tuple[Tensor, Callable[[], Tensor]]:
    """InfoNCE: mean over the rows that have positives of (log-sum-exp - mean positive logit), then over directions.

    Args:
        cosine: rows are normalised first; else they are compared as they are. The rest as in `contrast`.

    Returns:
        The loss, and a function that gives `confidence`: the positives' mean share of the soft-max, queries to keys.
    """
    if low is None and cosine:  # unit vectors are float32, whatever the rows are
        low = torch.is_autocast_enabled(queries.device.type)
    form = form_of(queries, low=low)
    more_b = extra_b if both and keys is not None else ()
    if isinstance(form, Fused) and world.size == 1 and not more_b and is_direct(queries, keys, extra_a):
        if known_scale is None:  # synchronises with the device; once, whichever form follows
            known_scale = float(scale.detach())
        rows = None if cosine else (queries, keys, *(extra.z for extra in extra_a))
        if known_scale > 0 and bound(rows, scale, known_scale, world) <= NARROW:
            loss, share = direct_loss(queries, keys, scale.float(), relation, extra_a, form, both, cosine)
            return loss, lambda: share
    if cosine:
        queries, keys = unit(queries), None if keys is None else unit(keys)
        extra_a, extra_b = _units(extra_a), _units(extra_b)
    stats = contrast(
        queries, keys, scale, relation, extra_a, extra_b, both=both, unit=cosine, known_scale=known_scale, low=low,
        world=world,
    )  # fmt: skip
    return info_nce_loss(stats, world), lambda: confidence(stats, world)


def _units(extras: Sequence[Extra]) -> list[Extra]:
    return [replace(extra, z=unit(extra.z)) for extra in extras]


def info_nce_loss(stats: Stats, world: World) -> Tensor:
    """Mean over the rows that have positives of (log-sum-exp - mean positive logit), then over directions."""
    sides = [stats.a] if stats.b is None else [stats.a, stats.b]
    lse = stats.a.first
    if world.size == 1 and lse.dtype == torch.float32 and runs_on(lse.device):
        loss: Tensor = mean_loss(*((sums.first, sums.positive, sums.positives) for sums in sides))
        return loss
    losses = [_direction(sums, world) for sums in sides]
    return losses[0] if len(losses) == 1 else (losses[0] + losses[1]) / 2


def mean_positive(sums: Sums) -> Tensor:
    """[N] mean of the positives' logits; 0 where a row has none."""
    return sums.positive / sums.positives.clamp(min=1)


@torch.no_grad()
def confidence(stats: Stats, world: World) -> Tensor:
    """The positives' mean share of the soft-max, from a to b; chance is about 1 / batch."""
    share = (mean_positive(stats.a) - stats.a.first).exp()
    return world.mean(share, stats.a.valid)


def result(loss: Tensor, sure: Callable[[], Tensor], scale: Tensor, context: Context) -> dict[str, Tensor]:
    """ "loss" and, where `context.told`, "temperature" and "confidence"."""
    if not context.told:
        return {"loss": loss}
    return {"loss": loss, "temperature": 1 / scale.detach().squeeze(), "confidence": sure()}


def _direction(sums: Sums, world: World) -> Tensor:
    rows = torch.addcdiv(sums.first, sums.positive, sums.positives.clamp(min=1), value=-1)
    return world.mean(rows, sums.valid)


def sides(a: Embedded, b: Embedded, context: Context) -> tuple[Tensor, Tensor | None, Relation]:
    """Queries, keys and their relation; of one node, both views as queries, and no keys."""
    if not context.symmetric:
        return a.z, b.z, Relation(Side(a.row, a.id), Side(b.row, b.id), context.equal_ids)
    side = Side(torch.cat([a.row, b.row]), torch.cat([a.id, b.id]))
    return torch.cat([a.z, b.z]), None, Relation(side, side, context.equal_ids)


def contrast_views(
    a: Embedded,
    b: Embedded,
    scale: Tensor,
    context: Context,
    similarity: str,
    *,
    both: bool = True,
    tilts: Sequence[float] = (1.0,),
    positives_in_sum: bool = True,
    hardest: int | None = None,
    known_scale: float | None = None,
) -> tuple[Stats, Relation]:
    """`contrast` of two views: in one symmetric matrix of both for one node, of a against b for two.

    Args:
        hardest: number of negatives per row, the most similar; None: all. The rest as in `contrast`.
    """
    cosine = similarity == "cosine"
    queries, keys, relation = sides(a, b, context)
    extra_a: Sequence[Extra] = context.extra_a
    extra_b: Sequence[Extra] = context.extra_b
    if cosine:
        queries, keys = unit(queries), None if keys is None else unit(keys)
        extra_a, extra_b = _units(extra_a), _units(extra_b)
    if hardest is not None:
        assert tuple(tilts) == (1.0,)
        assert positives_in_sum
        given = (queries, keys, scale, relation, extra_a, extra_b)
        return contrast_hardest(*given, k=hardest, both=both, world=context.world), relation
    stats = contrast(
        queries, keys, scale, relation, extra_a, extra_b, tilts=tilts, positives_in_sum=positives_in_sum, both=both,
        unit=cosine, known_scale=known_scale, world=context.world,
    )  # fmt: skip
    return stats, relation


class SoftmaxObjective(TemperedModule):
    """Two views in, a loss out.

    Args:
        both_directions: of two nodes. one_node: refuse pairs of two nodes. hardest: number of negatives of a row, the
            most similar; None: all. own_negative: weight of a row's own explicit negatives in its sum.
        in_batch: whether keys of the batch's other rows are negatives; False: only extra keys are.
    """

    def __init__(
        self,
        settings: Tempered,
        both_directions: bool = True,
        one_node: bool = False,
        hardest: int | None = None,
        own_negative: float = 1.0,
        in_batch: bool = True,
    ) -> None:
        super().__init__(settings)
        self.own_negative, self.in_batch = own_negative, in_batch
        self.both_directions, self.one_node, self.hardest = both_directions, one_node, hardest

    def forward(self, a: Embedded, b: Embedded, context: Context) -> dict[str, Tensor]:
        """Return what `result` gives."""
        if self.one_node and not context.symmetric:
            raise InputError(f"{type(self.settings).__name__} compares two views of one node; for two, use InfoNCE")
        scale, known = self.scale(context, a.z), self.known_scale(context)
        both, similarity = self.both_directions and context.both, self.settings.similarity
        if not self.in_batch:
            return self._own_key(a, b, scale, context, both)
        if self.hardest is None and self.own_negative == 1:
            queries, keys, relation = sides(a, b, context)
            loss, sure = mean_nce(
                queries, keys, scale, relation, context.extra_a, context.extra_b, cosine=similarity == "cosine",
                both=both, known_scale=known, world=context.world,
            )  # fmt: skip
            return result(loss, sure, scale, context)
        stats, _ = contrast_views(a, b, scale, context, similarity, both=both, hardest=self.hardest, known_scale=known)
        asking = (a, b) if context.symmetric else (a,)
        stats = replace(stats, a=self._weighted(stats.a, asking, scale, context.extra_a))
        loss = info_nce_loss(stats, context.world)
        return result(loss, lambda: confidence(stats, context.world), scale, context)

    def _own_key(self, a: Embedded, b: Embedded, scale: Tensor, context: Context, both: bool) -> dict[str, Tensor]:
        """`forward` with `in_batch` False."""
        ways = [(a, b, context.extra_a)]
        if context.symmetric:
            ways.append((b, a, context.extra_a))
        elif both and context.extra_b:
            ways.append((b, a, context.extra_b))
        found = []
        for query, key, extras in ways:
            if not extras:
                raise InputError(
                    "in_batch=False needs negatives from outside the batch: give a queue or explicit negatives"
                )
            query, own = aligned(query, key)  # a query without a key of its own is left out
            weighed = partial(self._weighted, asking=(query,), scale=scale, extras=extras)
            found.append(own_key_nce(
                query.z, own.z, scale, Side(query.row, query.id), extras, context.equal_ids, weighed=weighed,
                cosine=self.settings.similarity == "cosine", known_scale=self.known_scale(context),
                world=context.world,
            ))  # fmt: skip
        loss = found[0][0] if len(found) == 1 else (found[0][0] + found[1][0]) / 2
        return result(loss, found[0][1], scale, context)

    def _weighted(self, sums: Sums, asking: Sequence[Embedded], scale: Tensor, extras: Sequence[Extra]) -> Sums:
        """The sums, with weight `own_negative` on each row's own explicit negatives."""
        if self.own_negative == 1:
            return sums
        z, row, ids = (torch.cat([getattr(side, name) for side in asking]) for name in ("z", "row", "id"))
        lse = sums.lse
        for extra in extras:
            if extra.same_row == "negative" and len(extra.row):
                at, brings = own_negatives(row, ids, extra)
                own, theirs = (unit(x) if self.settings.similarity == "cosine" else x for x in (z, extra.z[at]))
                logit = (scale * (own * theirs).sum(1)).masked_fill(~brings, -torch.inf)
                share = (logit - lse[0]).exp()  # the negative's share of its row's sum
                lse = lse + torch.log1p((self.own_negative - 1) * share)
        return replace(sums, lse=lse)


def own_negatives(row: Tensor, ids: Tensor, extra: Extra) -> tuple[Tensor, Tensor]:
    """[N] the index of each query's own explicit negative, of one or more in `extra`, and [N] bool: it has one.

    A negative of the query's own id is ignored, and counts as none. Does not synchronise with a GPU.
    """
    order = extra.row.argsort()
    at = order[torch.searchsorted(extra.row[order], row).clamp(max=len(order) - 1)]
    return at, (extra.row[at] == row) & (extra.id[at] != ids)
