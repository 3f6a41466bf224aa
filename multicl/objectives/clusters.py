"""The module that SwAV's settings build, and the codes it predicts. B rows of this rank, K prototypes, D width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from multicl.distributed import World
from multicl.objectives.distance import aligned
from multicl.objectives.prototypes import SwAV
from multicl.ops.unit import unit
from multicl.types import Context, Embedded, Extra, InputError


@torch.no_grad()
def sinkhorn(scores: Tensor, iterations: int, world: World) -> Tensor:
    """Codes of rows: the rows of all ranks, spread over the prototypes as evenly as the iterations achieve.

    The steps of the paper's pseudo-code, on logarithms, so that no score overflows or underflows.

    Args:
        scores: [B, K] of this rank's rows, divided by epsilon already.

    Returns:
        [B, K] that sum to 1 over K.
    """
    codes = scores
    for _ in range(iterations):
        codes = codes - _log_sum_of_ranks(codes, world)
        codes = codes - codes.logsumexp(1, keepdim=True)
    return codes.exp()


def _log_sum_of_ranks(x: Tensor, world: World) -> Tensor:
    """[B, K] -> [K] log of the sum of exp over the rows of all ranks."""
    lowest = x.new_full((1, x.shape[1]), torch.finfo(x.dtype).min)  # a rank may have no row
    most = world.max(torch.cat([x, lowest]).amax(0))
    return most + world.sum((x - most).exp().sum(0)).log()


class SwAVObjective(nn.Module):
    """Two views in, a loss out.

    Args:
        width: D.
    """

    def __init__(self, settings: SwAV, width: int) -> None:
        super().__init__()
        self.settings = settings
        self.prototypes = nn.Parameter(nn.functional.normalize(torch.randn(settings.prototypes, width), dim=1))

    def forward(self, a: Embedded, b: Embedded, context: Context) -> dict[str, Tensor]:
        """Return "loss" and "prototypes_used", the perplexity of the mean prediction: from 1 (collapsed) to K.

        Where `context.both` is False, only a's rows predict: b serves for codes alone.
        """
        if any(extra.same_row == "negative" for extra in (*context.extra_a, *context.extra_b)):
            raise InputError("SwAV takes no explicit negatives: use a soft-max objective (InfoNCE)")
        a, b = aligned(a, b)
        za, zb = unit(a.z), unit(b.z if context.both else b.z.detach())
        centres = unit(self.prototypes).to(za.dtype)
        if context.step < self.settings.frozen_steps:
            centres = centres.detach()
        with torch.autocast(za.device.type, enabled=False):  # as in `contrast`: bf16 scores over T are wrong
            return self._compared(za @ centres.T, zb @ centres.T, centres, context)

    def _compared(self, scores_a: Tensor, scores_b: Tensor, centres: Tensor, context: Context) -> dict[str, Tensor]:
        """As `forward`, from scores [B, K] of both views."""
        world, settings = context.world, self.settings
        log_p = (scores_a / settings.temperature).log_softmax(1)
        loss = self._predicted(log_p, self._codes(scores_b, centres, context.extra_a, world), world)
        if context.both:
            extras = context.extra_a if context.symmetric else context.extra_b
            codes = self._codes(scores_a, centres, extras, world)
            loss = (loss + self._predicted((scores_b / settings.temperature).log_softmax(1), codes, world)) / 2
        return {"loss": loss, "prototypes_used": _perplexity(log_p, world)}

    @torch.no_grad()
    def _codes(self, scores: Tensor, centres: Tensor, extras: Sequence[Extra], world: World) -> Tensor:
        """[B, K] of rows with these scores; a queue's keys are clustered with them."""
        parts = [extra.z[world.rank :: world.size] for extra in extras]  # each rank takes its part
        queued = [unit(part).to(centres) @ centres.T for part in parts]
        every = torch.cat([scores.detach(), *queued]) / self.settings.epsilon
        return sinkhorn(every, self.settings.iterations, world)[: len(scores)]

    @staticmethod
    def _predicted(log_p: Tensor, codes: Tensor, world: World) -> Tensor:
        """Mean cross-entropy over the rows of all ranks."""
        each = -(codes * log_p).sum(1)
        return world.mean(each, torch.ones_like(each, dtype=torch.bool))


@torch.no_grad()
def _perplexity(log_p: Tensor, world: World) -> Tensor:
    """exp of the entropy of the mean over all ranks' rows."""
    total = world.sum(torch.cat([log_p.exp().sum(0), log_p.new_full((1,), len(log_p))]))
    mean = total[:-1] / total[-1:].clamp(min=1)
    entropy: Tensor = torch.special.entr(mean).sum()
    return entropy.exp()
