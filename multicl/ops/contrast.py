"""contrast: the one op behind every soft-max contrastive objective.

It returns statistics of each row (log-sum-exp, sum over positives, number of positives); losses are plain autograd on
those vectors. This is the plain form, which writes each rank's logits out: local rows x the keys of all ranks.

Dimensions: Na, Nb local rows of the two sides; Ka, Kb rows of all ranks; X extra keys; D width; T tilts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from multicl.distributed import World


@dataclass(frozen=True)
class Side:
    """What the relation must know of the rows of one side. Equal rows are about one thing: they have equal ids."""

    row: Tensor
    """[N] int64 stable row of the data set."""
    id: Tensor
    """[N] int64 what the row is about."""


@dataclass(frozen=True)
class Relation:
    """Which keys are positive, negative or nothing to a query.

    Self (the diagonal of a symmetric matrix): nowhere. Positive: same row, or equal id under `equal_ids="positive"`.
    Neither: equal id under "ignore". Negative: all else.
    """

    a: Side
    b: Side
    equal_ids: Literal["positive", "ignore"] = "positive"


@dataclass(frozen=True)
class Extra:
    """More keys for one side: a queue (replicated, detached) or mined negatives (this rank's, with gradients)."""

    z: Tensor
    """[X, D]"""
    row: Tensor
    id: Tensor
    same_row: Literal["ignore", "negative"] = "ignore"
    """A queue's key of the query's own row is no negative; a mined one is never positive by row."""


@dataclass(frozen=True)
class Sums:
    """One direction's statistics, a value a local row; float32 (float64 for float64 input)."""

    lse: Tensor
    """[T, N] log of the sum of exp(tilt * logit) over the keys; 0 where a row has no key."""
    positive: Tensor
    """[N] sum of the positives' logits."""
    positives: Tensor
    """[N] how many positives, in the float type of the logits."""

    @property
    def valid(self) -> Tensor:
        """[N] bool: rows that have a positive."""
        return self.positives > 0


@dataclass(frozen=True)
class Stats:
    """Sums of a's rows over b's keys and of b's rows over a's; b is None where the matrix is symmetric."""

    a: Sums
    b: Sums | None


def contrast(
    a: Tensor,
    b: Tensor | None,
    scale: Tensor,
    relation: Relation,
    extra_a: Extra | None = None,
    extra_b: Extra | None = None,
    tilts: Sequence[float] = (1.0,),
    positives_in_sum: bool = True,
    both: bool = True,
    unit: bool = False,
    world: World | None = None,
) -> Stats:
    """Row statistics of the logits scale * a @ b^T over the rows of all ranks.

    Args:
        a: [Na, D] this rank's rows, unit vectors for cosine similarity. b: [Nb, D], or None: a symmetric matrix, a's
            rows against themselves but for self.
        scale: one element, 1 / temperature; may want a gradient.
        relation: rows and ids of both sides (of a alone, where b is None: pass it twice).
        extra_a: more keys for a's rows. extra_b: for b's.
        tilts: factors of the logits in the sums (hard-negative weights need exp((1 + beta) * logit) too).
        positives_in_sum: False leaves positives out of the sums (DCL, arXiv:2110.06848).
        both: the sums of b's rows over a's keys too; without, Stats.b is None.
        unit: rows are known to be unit vectors or zero, so that a logit is at most the scale.

    Returns:
        Stats. Gradients flow to a, b, scale and extras; each rank's backward gives its share of the sum over ranks,
        keys' gradients summed home.
    """
    world = world or World.current()
    with torch.autocast(a.device.type, enabled=False):  # bf16 logits at scale 100 are wrong by 0.3
        kind = torch.promote_types(a.dtype, torch.float32)
        a = a.to(kind)
        how = (tilts, positives_in_sum, world)
        if b is None:
            return Stats(_sums(a, a, scale, relation.a, relation.a, relation, extra_a, *how, symmetric=True), None)
        b = b.to(kind)
        return Stats(
            _sums(a, b, scale, relation.a, relation.b, relation, extra_a, *how),
            _sums(b, a, scale, relation.b, relation.a, relation, extra_b, *how) if both else None,
        )


def _sums(
    queries: Tensor,
    keys: Tensor,
    scale: Tensor,
    query: Side,
    key: Side,
    relation: Relation,
    extra: Extra | None,
    tilts: Sequence[float],
    positives_in_sum: bool,
    world: World,
    symmetric: bool = False,
) -> Sums:
    keys_KD = world.gather(keys)
    row_K, id_K = world.gather(key.row), world.gather(key.id)
    logits_NK = scale.to(queries.dtype) * (queries @ keys_KD.T)
    same_row = query.row[:, None] == row_K
    same_id = query.id[:, None] == id_K
    positive = same_row | same_id if relation.equal_ids == "positive" else same_row
    allowed = positive | ~same_id
    if symmetric:
        start = sum(world.counts(len(queries), queries.device)[: world.rank])
        other = torch.ones_like(positive)
        other[torch.arange(len(queries)), start + torch.arange(len(queries))] = False
        positive, allowed = positive & other, allowed & other
    if extra is not None:
        logits_NX = scale.to(queries.dtype) * (queries @ extra.z.to(queries.dtype).T)
        same_row = query.row[:, None] == extra.row
        same_id = query.id[:, None] == extra.id
        more = same_id & ~same_row if relation.equal_ids == "positive" else torch.zeros_like(same_id)
        neither = (same_id & ~more) | (same_row if extra.same_row == "ignore" else torch.zeros_like(same_row))
        logits_NK = torch.cat([logits_NK, logits_NX], 1)
        positive = torch.cat([positive, more], 1)
        allowed = torch.cat([allowed, ~neither], 1)
    summed = allowed if positives_in_sum else allowed & ~positive
    empty = ~summed.any(1)  # log of an empty sum: give 0 and no gradient rather than -inf and NaN
    masked = logits_NK.masked_fill(~summed, -torch.inf).masked_fill(empty[:, None], 0.0)
    lse = torch.stack([torch.logsumexp(tilt * masked, 1).masked_fill(empty, 0.0) for tilt in tilts])
    return Sums(lse, logits_NK.masked_fill(~positive, 0.0).sum(1), positive.sum(1).to(logits_NK.dtype))
