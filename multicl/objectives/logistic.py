"""The module that Sigmoid's settings build."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multicl.objectives.sigmoid import Sigmoid
from multicl.objectives.tempered import TemperedModule
from multicl.ops.contrast import Relation, Side
from multicl.ops.sigmoid import sigmoid_loss
from multicl.ops.unit import unit
from multicl.types import Context, Embedded


class SigmoidObjective(TemperedModule):
    """Two views in, a loss out. Each row of a meets each row of b once, also where both are views of one node."""

    bias: Tensor

    def __init__(self, settings: Sigmoid) -> None:
        super().__init__(settings)
        bias = torch.tensor([settings.bias])
        if settings.learnable:
            self.bias = nn.Parameter(bias)
        else:
            self.register_buffer("bias", bias, persistent=False)

    def forward(self, a: Embedded, b: Embedded, context: Context) -> dict[str, Tensor]:
        """Return "loss", "temperature" and "bias"."""
        context.refuse_extras("Sigmoid")
        scale = self.scale(context, a.z)
        za, zb = (unit(v.z) if self.settings.similarity == "cosine" else v.z for v in (a, b))
        relation = Relation(Side(a.row, a.id), Side(b.row, b.id), context.equal_ids)
        loss = sigmoid_loss(za, zb, scale, self.bias, relation, context.world)
        return {"loss": loss, "temperature": 1 / scale.detach().squeeze(), "bias": self.bias.detach().squeeze()}
