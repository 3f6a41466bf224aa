"""The steps after the statistics of rows on a GPU, one kernel each: beside the products, launches are what costs.

`RunningOnGpu` is `Running` with `multicl.ops.row_kernels`; `mean_loss` is InfoNCE's mean over rows. A batch of 8,192
takes less than half of the launches of the same steps in torch's own operations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from multicl.ops.launch import on
from multicl.ops.once import once
from multicl.ops.running import Running, Slopes
from multicl.ops.uncompiled import uncompiled

BLOCK = 512
"""Rows of a program."""
AT_ONCE = 4096
"""Rows of a loop's step, where one program walks all rows."""


class RunningOnGpu(Running):
    """Statistics in float32 of one or two tilts, on a device that runs Triton kernels."""

    def lse(self) -> Tensor:
        """As `Running.lse`."""
        from multicl.ops import row_kernels

        out = torch.empty_like(self.others)
        with on(out.device):
            row_kernels.lse[self._programs](
                self.sums, self._shift, out, out.shape[1], *two(self.tilts), **self._settings()
            )
        return out

    def slopes(self, of_lse: list[Tensor], of_positive: list[Tensor]) -> Slopes:
        """As `Running.slopes`."""
        from multicl.ops import row_kernels

        tilts, size, wide = len(self.tilts), self.sums.shape[1], self.shift is not None
        counts = [tilts, tilts * wide, 1, 1]
        out = self.sums.new_empty(sum(counts), size)
        single = torch.empty(size, dtype=torch.bool, device=out.device)
        given = [z.contiguous() for pair in zip(of_lse, of_positive, strict=True) for z in pair]
        with on(out.device):
            row_kernels.slopes[self._programs](
                self.sums, self._shift, *given[:2], *given[-2:], out, single, size, len(of_positive[0]),
                *two(self.tilts), **self._settings(),
            )  # fmt: skip
        sums, own, positive, only = out.split(counts)
        kept = only[0] if self.positives_in_sum else None
        return Slopes(self.tilts, sums, own if wide else None, positive[0], kept, single)

    @property
    def _shift(self) -> Tensor:
        return self.sums if self.shift is None else self.shift

    @property
    def _programs(self) -> tuple[int]:
        return (-(-self.sums.shape[1] // BLOCK),)

    def _settings(self) -> dict[str, Any]:
        wide = self.shift is not None
        return {"TILTS": len(self.tilts), "WIDE": wide, "INSIDE": self.positives_in_sum, "BLOCK": BLOCK}


def two(tilts: tuple[float, ...]) -> tuple[float, float]:
    """The tilts as kernels take them; a single one comes twice."""
    return float(tilts[0]), float(tilts[-1])


@uncompiled
def mean_loss(*sums: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Mean over the rows that have positives of (log-sum-exp - mean positive logit), then over directions.

    Args:
        sums: one direction or two, each three [N] as in `multicl.ops.relation.Sums`: lse of one tilt, positive,
            positives; float32, on a device that runs Triton kernels.

    Returns:
        Scalar; 0 where no row has a positive.
    """
    loss: Tensor = _Mean.apply(*(z for one in sums for z in one))  # type: ignore[no-untyped-call]
    return loss


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *sums: Tensor) -> Tensor:
        from multicl.ops import row_kernels

        given = [z.contiguous() for z in sums]
        a, b = given[:3], given[-3:]
        loss, counts = a[0].new_empty(()), a[0].new_empty(2)  # two tensors: a view could not be divided in place
        with on(loss.device):
            row_kernels.mean[(1,)](*a, *b, loss, counts, len(a[0]), len(b[0]), BOTH=len(given) > 3, BLOCK=AT_ONCE)
        ctx.save_for_backward(sums[0], counts, *given[2::3])
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from multicl.ops import row_kernels

        wants, counts, *positives = ctx.saved_tensors
        with torch.no_grad():
            a, b = positives[0], positives[-1]
            slopes = [counts.new_empty(2, len(one)) for one in positives]
            programs = -(-max(len(a), len(b)) // BLOCK)
            with on(counts.device):
                row_kernels.mean_slopes[(programs,)](
                    grads[0], counts, a, b, slopes[0], slopes[-1], len(a), len(b), BOTH=len(positives) > 1, BLOCK=BLOCK
                )
        return once(tuple(z for one in slopes for z in (*one, None)), wants, "multicl.ops.plain.contrast can be")
