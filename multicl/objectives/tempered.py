"""The base class of modules that have a temperature."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from multicl.objectives.temperature import LOWEST_LEARNT, Tempered
from multicl.types import Context


class TemperedModule(nn.Module):
    """Abstract: provides `scale`, 1 / temperature, as its settings say; if learnt, by the parameter `log_scale` [1]."""

    def __init__(self, settings: Tempered) -> None:
        super().__init__()
        self.settings = settings
        self.most = -math.log(LOWEST_LEARNT)
        """Upper limit of the learnt `log_scale`; higher where a pretrained model's scale begins above it."""
        self.log_scale = nn.Parameter(torch.tensor([-math.log(settings.temperature)])) if settings.learnable else None

    def known_scale(self, context: Context) -> float | None:
        """1 / temperature as a number; None where it is learnt, as reading it would synchronise with the device."""
        return None if self.log_scale is not None else 1 / self.settings.temperature_at(context.progress)

    def scale(self, context: Context, like: Tensor) -> Tensor:
        """[1] 1 / temperature on the device of `like`; a learnt one wants a gradient."""
        if self.log_scale is None:
            kind = torch.promote_types(like.dtype, torch.float32)
            fixed = 1 / self.settings.temperature_at(context.progress)
            return torch.full((1,), fixed, dtype=kind, device=like.device)
        with torch.no_grad():  # the parameter itself: beyond a clamp in the graph it would get no gradient
            self.log_scale.clamp_(max=self.most)
        return self.log_scale.exp()
