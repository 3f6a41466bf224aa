"""The module that CoSENT's settings build, and its arithmetic, linear in the batch but for a sort."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multicl.distributed import World
from multicl.objectives.co_sent import CoSENT
from multicl.objectives.distance import aligned
from multicl.ops.unit import unit
from multicl.types import Context, Embedded, InputError


def order_loss(x: Tensor, scores: Tensor, world: World) -> Tensor:
    """log(1 + sum over i, j with score_i > score_j of exp(x_j - x_i)), over the rows of all ranks.

    The terms of the sum over j do not depend on i: along sorted scores it is a running sum, and needs no matrix.

    Args:
        x: [n_r] this rank's similarities, scaled. scores: [n_r]; NaN: a row that counts nowhere.

    Returns:
        Scalar, the same on every rank; 0 where no two scores differ. Every rank computes all of it, and the backward
        of `gather` sums the ranks' gradients: W times the one-process gradient.
    """
    score, every = world.gather(scores), world.gather(x.double())
    known = ~score.isnan()
    score, order = score.where(known, torch.inf).sort()  # NaN last: dropping them would synchronise with a GPU
    every, known = every[order], known[order]
    below = torch.searchsorted(score, score)  # how many scores are lower
    lower = every.logcumsumexp(0)[(below - 1).clamp(min=0)]
    terms = (lower - every).masked_fill((below == 0) | ~known, -torch.inf)
    return torch.cat([terms.new_zeros(1), terms]).logsumexp(0).to(x.dtype)


class CoSENTObjective(nn.Module):
    """Two views and their rows' scores in, a loss out."""

    def __init__(self, settings: CoSENT) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, a: Embedded, b: Embedded, context: Context) -> dict[str, Tensor]:
        """Return "loss"; it grows with the logarithm of the batch."""
        context.refuse_extras("CoSENT")
        a, b = aligned(a, b)
        if a.score is None:
            raise InputError("CoSENT orders rows by their scores: give Embedded(score=...), of a pair target=")
        cos = (unit(a.z) * unit(b.z)).sum(1)
        return {"loss": order_loss(self.settings.scale * cos, a.score, context.world)}
