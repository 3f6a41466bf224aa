"""The module that Matryoshka's settings build."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from multicl.objectives.matryoshka import Matryoshka
from multicl.types import Context, Embedded


class MatryoshkaObjective(nn.Module):
    """Two views in, a loss out: the mean over widths, each of which has a module with its own parameters."""

    def __init__(self, settings: Matryoshka, width: int) -> None:
        super().__init__()
        self.widths = (*settings.dims, width)
        self.parts = nn.ModuleList(settings.objective.build((d, d)) for d in self.widths)

    @property
    def factors(self) -> Any:
        """`factors` of the module at the whole width, as `BilinearObjective` has them; None where it has none."""
        return getattr(self.parts[-1], "factors", None)

    def forward(self, a: Embedded, b: Embedded, context: Context) -> dict[str, Tensor]:
        """Return "loss", "loss_D" of every width D, and what the objective logs at the whole width."""
        told: dict[str, dict[str, Tensor]] = {}
        for width, part in zip(self.widths, self.parts, strict=True):
            extra_a, extra_b = (
                tuple(replace(extra, z=extra.z[:, :width]) for extra in extras)
                for extras in (context.extra_a, context.extra_b)
            )
            cut = (replace(view, z=view.z[:, :width]) for view in (a, b))
            told[f"loss_{width}"] = part(*cut, replace(context, extra_a=extra_a, extra_b=extra_b))
        losses = {name: values["loss"] for name, values in told.items()}
        whole = told[f"loss_{self.widths[-1]}"]
        mean = torch.stack(list(losses.values())).mean()  # of losses that are means over all ranks' rows already
        return {**whole, **{name: loss.detach() for name, loss in losses.items()}, "loss": mean}
