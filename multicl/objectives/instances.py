"""The module that InstanceNCE's settings build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from multicl.objectives.instance_nce import InstanceNCE
from multicl.ops.nce import nce
from multicl.ops.unit import unit
from multicl.types import Context, Embedded, InputError

if TYPE_CHECKING:
    from multicl.training.bank import Bank


class InstanceObjective(nn.Module):
    """Two views in, a loss out; the banks come with the context and are not changed."""

    def __init__(self, settings: InstanceNCE) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, a: Embedded, b: Embedded, context: Context) -> dict[str, Tensor]:
        """Return "loss" and "confidence": the mean probability given to the positives, in [0, 1]."""
        context.refuse_extras("InstanceNCE")
        loss, sure = self._direction(a, context.bank_b, context, "a")
        if context.both:
            back, back_sure = self._direction(b, context.bank_a, context, "b")
            loss, sure = (loss + back) / 2, (sure + back_sure) / 2
        return {"loss": loss, "confidence": sure}

    def _direction(self, rows: Embedded, bank: Bank | None, context: Context, side: str) -> tuple[Tensor, Tensor]:
        """Mean loss and confidence over all ranks' rows whose own slot is filled and which have a negative."""
        if bank is None:
            raise InputError("InstanceNCE needs a bank of the data's rows: train it with a Trainer")
        settings = self.settings
        negatives = bank.negatives(rows, settings.negatives, context.step, side)
        own = bank.slots(rows.row)
        norm = None if settings.softmax else bank.log_norm or 0.0  # it is None only where no rank has a row
        loss, sure = nce(unit(rows.z), bank.z, own, negatives.at, 1 / settings.temperature, norm)
        valid = bank.seen[own] & negatives.some
        return context.world.mean(loss, valid), context.world.mean(sure, valid)
