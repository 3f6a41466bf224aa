"""InfoNCE as in MoCo (arXiv:1911.05722, equation 1): a row is compared with its own key and with extra ones (a queue).

    L_i = log ( exp(s_i / T) + sum_{j in extra} exp(s_ij / T) ) - s_i / T

The keys of the batch's other rows are left out: `contrast` walks only the extra keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from multicl.distributed import World
from multicl.ops.contrast import Extra, Relation, Side, Sums, contrast
from multicl.ops.relation import of_other_ids
from multicl.ops.uncompiled import uncompiled
from multicl.ops.unit import unit


@uncompiled
def own_key_nce(
    queries: Tensor,
    own: Tensor,
    scale: Tensor,
    side: Side,
    extras: Sequence[Extra],
    equal_ids: Literal["positive", "ignore"] = "positive",
    *,
    cosine: bool,
    known_scale: float | None = None,
    low: bool | None = None,
    weighed: Callable[[Sums], Sums] = lambda sums: sums,
    world: World,
) -> tuple[Tensor, Callable[[], Tensor]]:
    """Mean over the rows of all ranks of log-sum-exp - mean positive logit, as `mean_nce` gives it.

    Args:
        queries, own: [N, D]; row i of `own` is the key of query i. side: the rows of both.
        extras: one or more; each may still be empty. weighed: changes the sums over the extra keys. The rest as in
            `mean_nce`.

    Returns:
        The loss, to which rows without extra keys add 0, and a function that gives `confidence`.
    """
    if cosine:
        queries, own = unit(queries), unit(own)
        extras = [replace(extra, z=unit(extra.z)) for extra in extras]
    relation = Relation(side, side[slice(0)], equal_ids)
    sums = contrast(
        queries, queries.detach()[:0], scale, relation, extras, both=False, unit=cosine, known_scale=known_scale,
        low=low, world=world,
    ).a  # fmt: skip
    sums = weighed(sums)
    logit = scale * (queries.to(scale.dtype) * own).sum(1)
    some = sums.valid | (of_other_ids(side.id, torch.cat([extra.id for extra in extras])) > 0)
    # softplus(x - logit) is log(exp(x) + exp(logit)) - logit, whose slope would cancel where the loss is near 0
    rows = softplus((sums.first - logit).masked_fill(~some, -torch.inf), threshold=40)
    rows = rows + (sums.positives * logit - sums.positive) / (sums.positives + 1)  # those that queues hold count, too
    every = torch.ones_like(some)
    return world.mean(rows, every), lambda: world.mean((-rows.detach()).exp(), every)
