"""The module that Bilinear's settings build."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from multicl.objectives.bilinear import Bilinear
from multicl.objectives.softmax import mean_nce, result, sides
from multicl.objectives.tempered import TemperedModule
from multicl.types import Context, Embedded


class BilinearObjective(TemperedModule):
    """Two views in, a loss out.

    Args:
        dims: widths of a and b; `product` is the parameter W, [Da, Db].
    """

    def __init__(self, settings: Bilinear, dims: tuple[int, int]) -> None:
        super().__init__(settings)
        self.bounded, self.both_directions = settings.bounded, settings.both_directions
        self.product = nn.Parameter(nn.init.xavier_uniform_(torch.empty(dims)))

    def forward(self, a: Embedded, b: Embedded, context: Context) -> dict[str, Tensor]:
        """Return what `result` gives."""
        context.refuse_extras("Bilinear")
        scale = self.scale(context, a.z)
        apart = replace(context, symmetric=False)  # W is not symmetric: two crops of one node are two sides
        queries, keys, relation = sides(*self.factors(a, b), apart)
        loss, sure = mean_nce(
            queries, keys, scale, relation, cosine=False, both=self.both_directions and context.both,
            known_scale=self.known_scale(context), world=context.world,
        )  # fmt: skip
        return result(loss, sure, scale, context)

    def factors(self, a: Embedded, b: Embedded) -> tuple[Embedded, Embedded]:
        """The two sides [N, Db] and [M, Db] whose dot products are the similarities."""
        za, zb = (self._bounded(view.z) for view in (a, b))
        with torch.autocast(za.device.type, enabled=False):  # as in `contrast`: bf16 logits are wrong by 0.3
            return replace(a, z=za @ self.product.to(za.dtype)), replace(b, z=zb)

    def _bounded(self, z: Tensor) -> Tensor:
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        return nn.functional.layer_norm(z, z.shape[1:]).tanh() if self.bounded else z
