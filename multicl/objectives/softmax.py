"""The module that InfoNCE's settings build, and its arithmetic on row statistics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from multicl.distributed import World
from multicl.ops.contrast import Relation, Side, Stats, Sums, contrast
from multicl.types import Context, Embedded

if TYPE_CHECKING:
    from multicl.objectives.info_nce import InfoNCE

LARGEST_SCALE = 100.0  # CLIP: a learnt temperature stays at 0.01 or more
SHORTEST = 1e-6


def unit(z: Tensor) -> Tensor:
    """[N, D] -> unit rows in float32 or better; a row of norm below 1e-6 becomes zero, with zero gradient."""
    return _Unit.apply(z)  # type: ignore[no-any-return,no-untyped-call]


class _Unit(torch.autograd.Function):
    """One pass each way; as a function of its own, less than half of the work of `normalize` and a mask."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        x = z.to(torch.promote_types(z.dtype, torch.float32))
        norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        inverse = norm.reciprocal().masked_fill_(norm < SHORTEST, 0.0)
        u: Tensor = x * inverse
        ctx.kind = z.dtype
        ctx.save_for_backward(u, inverse)
        return u

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        u, inverse = ctx.saved_tensors
        along = (grads[0] * u).sum(1, keepdim=True)
        grad: Tensor = (grads[0] - along * u) * inverse
        return grad.to(ctx.kind)


def info_nce_loss(stats: Stats, world: World) -> Tensor:
    """Mean over the rows that have positives of log-sum-exp - mean positive logit; mean of the two directions."""
    loss = _direction(stats.a, world)
    if stats.b is None:
        return loss
    return (loss + _direction(stats.b, world)) / 2


def _direction(sums: Sums, world: World) -> Tensor:
    return world.mean(sums.lse[0] - sums.positive / sums.positives.clamp(min=1), sums.valid)


class SoftmaxObjective(nn.Module):
    """Two views in, a loss out; owns the temperature."""

    log_scale: Tensor

    def __init__(self, settings: InfoNCE) -> None:
        super().__init__()
        self.settings = settings
        log_scale = torch.tensor([-math.log(settings.temperature)])
        if settings.learnable:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale, persistent=False)

    def forward(self, a: Embedded, b: Embedded, context: Context) -> dict[str, Tensor]:
        """Give "loss", "temperature" and "confidence".

        The last is the positives' mean share of the soft-max; chance is about 1 / batch.
        """
        scale = self.log_scale.exp()
        if self.settings.learnable:
            scale = scale.clamp(max=LARGEST_SCALE)
        cosine = self.settings.similarity == "cosine"
        za, zb = (unit(v.z) if cosine else v.z for v in (a, b))
        if context.symmetric:
            side = Side(torch.cat([a.row, b.row]), torch.cat([a.id, b.id]))
            relation = Relation(side, side, context.equal_ids)
            stats = contrast(torch.cat([za, zb]), None, scale, relation, unit=cosine, world=context.world)
        else:
            relation = Relation(Side(a.row, a.id), Side(b.row, b.id), context.equal_ids)
            both = self.settings.both_directions
            stats = contrast(za, zb, scale, relation, both=both, unit=cosine, world=context.world)
        loss = info_nce_loss(stats, context.world)
        with torch.no_grad():
            share = (stats.a.positive / stats.a.positives.clamp(min=1) - stats.a.lse[0]).exp()
            confidence = context.world.mean(share, stats.a.valid)
        return {"loss": loss, "temperature": 1 / scale.detach().squeeze(), "confidence": confidence}
