"""The part of a module that owns the temperature."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from multicl.objectives.temperature import LOWEST_LEARNT, Tempered
from multicl.types import Context


class TemperedModule(nn.Module):
    """Abstract: gives `scale`, 1 / temperature, as its settings say. A learnt one is the parameter `log_scale`, [1]."""

    def __init__(self, settings: Tempered) -> None:
        super().__init__()
        self.settings = settings
        self.most = -math.log(LOWEST_LEARNT)
        """The greatest `log_scale` that is learnt; what begins above it, as a checkpoint's, may stay there."""
        self.log_scale = nn.Parameter(torch.tensor([-math.log(settings.temperature)])) if settings.learnable else None

    def known_scale(self, context: Context) -> float | None:
        """1 / temperature, unless it is learnt: a look at that one waits for the device."""
        return None if self.log_scale is not None else 1 / self.settings.temperature_at(context.progress)

    def scale(self, context: Context, like: Tensor) -> Tensor:
        """[1] 1 / temperature on the device of `like`; a learnt one wants a gradient."""
        if self.log_scale is None:
            kind = torch.promote_types(like.dtype, torch.float32)
            fixed = 1 / self.settings.temperature_at(context.progress)
            return torch.full((1,), fixed, dtype=kind, device=like.device)
        with torch.no_grad():  # the parameter itself: a clamp in the graph has no gradient by which it could come back
            self.log_scale.clamp_(max=self.most)
        return self.log_scale.exp()
