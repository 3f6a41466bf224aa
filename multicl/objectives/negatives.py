"""The module that the settings of Decoupled and HardNegative build: losses whose sums hold only the negatives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from multicl.distributed import World
from multicl.objectives.softmax import contrast_views, mean_positive
from multicl.objectives.temperature import Tempered
from multicl.objectives.tempered import TemperedModule
from multicl.ops.contrast import Relation, Side, Stats, Sums
from multicl.ops.relation import of_other_ids
from multicl.types import Context, Embedded, Extra


class RowLoss(Protocol):
    """The loss of each row."""

    @property
    def tilts(self) -> tuple[float, ...]:
        """Tilts of the sums that it needs from `contrast`."""
        ...

    def __call__(self, sums: Sums, negatives: Tensor, scale: Tensor) -> Tensor:
        """[N] losses, from sums over negatives, the negatives' numbers [N], and 1 / temperature."""
        ...


@dataclass(frozen=True)
class DecoupledRows:
    """DCL: log-sum-exp over the negatives - mean positive logit."""

    @property
    def tilts(self) -> tuple[float, ...]:
        """The plain sum."""
        return (1.0,)

    def __call__(self, sums: Sums, negatives: Tensor, scale: Tensor) -> Tensor:
        """[N] losses."""
        return sums.lse[0] - mean_positive(sums)


@dataclass(frozen=True)
class HardRows:
    """Robinson's: -log(e^p / (e^p + N G)), on a log scale throughout, since e^(1 / T) may exceed float32."""

    beta: float
    tau_plus: float

    @property
    def tilts(self) -> tuple[float, ...]:
        """The weighted sum and the sum of the weights."""
        return (1 + self.beta, self.beta) if self.beta else (1.0,)

    def __call__(self, sums: Sums, negatives: Tensor, scale: Tensor) -> Tensor:
        """[N] losses."""
        positive = mean_positive(sums)
        log_n = negatives.clamp(min=1).to(positive.dtype).log()
        weighted = log_n + sums.lse[0] - sums.lse[1] if self.beta else sums.lse[0]
        # N G = (weighted - tau_plus N e^p) / (1 - tau_plus), where that is above its floor N e^(-1 / T)
        share = (math.log(self.tau_plus) if self.tau_plus else -math.inf) + log_n + positive - weighted
        left = share < 0
        estimate = weighted + torch.log(-torch.expm1(share.where(left, -1.0))) - math.log1p(-self.tau_plus)
        floor = log_n - scale
        log_ng = torch.maximum(estimate.where(left, floor), floor)
        return -logsigmoid(positive - log_ng)


def negatives_loss(
    stats: Stats,
    relation: Relation,
    scale: Tensor,
    rows: RowLoss,
    world: World,
    extra_a: Sequence[Extra] = (),
    extra_b: Sequence[Extra] = (),
) -> Tensor:
    """Mean over the rows that have a positive and a negative, then over directions.

    Args:
        stats: of `contrast` with the tilts of `rows` and positives_in_sum=False. relation, extra_a, extra_b: those
            given to it.
    """
    loss = _direction(stats.a, relation.a, relation.b, extra_a, scale, rows, world)
    if stats.b is None:
        return loss
    return (loss + _direction(stats.b, relation.b, relation.a, extra_b, scale, rows, world)) / 2


def _direction(
    sums: Sums, query: Side, key: Side, extras: Sequence[Extra], scale: Tensor, rows: RowLoss, world: World
) -> Tensor:
    # Keys of a row's own id are positive, ignored or self, wherever they come from: never negatives.
    negatives = of_other_ids(query.id, torch.cat([world.gather(key.id), *(extra.id for extra in extras)]))
    return world.mean(rows(sums, negatives, scale), sums.valid & (negatives > 0))


class NegativesObjective(TemperedModule):
    """Two views in, a loss out."""

    def __init__(self, settings: Tempered, rows: RowLoss) -> None:
        super().__init__(settings)
        self.rows = rows

    def forward(self, a: Embedded, b: Embedded, context: Context) -> dict[str, Tensor]:
        """Return "loss" and "temperature"."""
        scale = self.scale(context, a.z)
        stats, relation = contrast_views(
            a, b, scale, context, self.settings.similarity, both=context.both, tilts=self.rows.tilts,
            positives_in_sum=False, known_scale=self.known_scale(context),
        )  # fmt: skip
        loss = negatives_loss(stats, relation, scale, self.rows, context.world, context.extra_a, context.extra_b)
        return {"loss": loss, "temperature": 1 / scale.detach().squeeze()}
