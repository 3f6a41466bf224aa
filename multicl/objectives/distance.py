"""The module that Margin's settings build, and its arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multicl.distributed import World
from multicl.objectives.margin import Margin
from multicl.types import Context, Embedded


def margin_rows(a: Tensor, b: Tensor, similar: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """The loss of each pair of rows, and its Euclidean distance; float32 or better.

    Args:
        a, b: [N, D]. similar: [N] bool.

    Returns:
        [N] losses, [N] distances. Rows that coincide have no direction to move apart: their gradient is zero.
    """
    away = a.to(torch.promote_types(a.dtype, torch.float32)) - b.to(torch.promote_types(b.dtype, torch.float32))
    distance = torch.linalg.vector_norm(away, dim=1)
    return torch.where(similar, away.square().sum(1), (margin - distance).clamp(min=0).square()) / 2, distance


class MarginObjective(nn.Module):
    """Two views in, a loss out."""

    def __init__(self, settings: Margin) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, a: Embedded, b: Embedded, context: Context) -> dict[str, Tensor]:
        """Return "loss" and the mean distances "similar_distance" and "other_distance"."""
        context.refuse_extras("Margin")
        world = context.world
        a, b = aligned(a, b)
        if a.score is not None:
            return self._losses(a.z, b.z, a.score > 0, ~a.score.isnan(), world)
        start = sum(world.counts(len(a), a.z.device)[: world.rank])
        z, row, ids = world.gather(b.z), world.gather(b.row), world.gather(b.id)
        following = (start + 1 + torch.arange(len(a), device=a.z.device)) % max(len(z), 1)
        same = a.id == ids[following]
        counts = a.row != row[following]  # in a batch of one row, the next row is the row itself
        if context.equal_ids == "ignore":
            counts = counts & ~same
        own = torch.ones_like(same)
        similar, counted = torch.cat([own, same]), torch.cat([own, counts])
        twice, others = torch.cat([a.z, a.z]), torch.cat([b.z, z[following]])
        return self._losses(twice, others, similar, counted, world)

    def _losses(self, a: Tensor, b: Tensor, similar: Tensor, counted: Tensor, world: World) -> dict[str, Tensor]:
        loss, distance = margin_rows(a, b, similar, self.settings.margin)
        distance = distance.detach()
        return {
            "loss": world.mean(loss, counted),
            "similar_distance": world.mean(distance, counted & similar),
            "other_distance": world.mean(distance, counted & ~similar),
        }


def aligned(a: Embedded, b: Embedded) -> tuple[Embedded, Embedded]:
    """The rows that both sides have, in the order of a; the sides as they are where they share one `row` tensor."""
    if a.row is b.row:
        return a, b
    a, b = a[torch.isin(a.row, b.row)], b[torch.isin(b.row, a.row)]
    order = b.row.argsort()
    return a, b[order[torch.searchsorted(b.row[order], a.row)]]
