"""InfoNCE on one GPU, from the output of the heads to the mean loss: one Function with as few launches as possible.

At a few thousand rows, launch overhead dominates: the GPU finishes each step before Python has launched the next.
`unit`, `contrast` and a mean, a graph of four Functions, take more than twice as many launches as this.

It takes narrow logits, one rank, and extra keys without gradients (a queue); `contrast` does everything else.
Products, their precision and the tiles are those of `multicl.ops.fused`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from multicl.ops import fused
from multicl.ops.blocks import Block
from multicl.ops.finish import AT_ONCE, BLOCK, RunningOnGpu
from multicl.ops.launch import on
from multicl.ops.once import once
from multicl.ops.relation import Extra, Relation, Side
from multicl.ops.running import Slopes
from multicl.ops.uncompiled import uncompiled
from multicl.ops.unit import SHORTEST, WIDEST, sizes


def is_direct(a: Tensor, b: Tensor | None, extras: Sequence[Extra]) -> bool:
    """Whether `direct_loss` takes such rows, and such extra keys for those of a."""
    if extras and (b is None or any(extra.z.requires_grad for extra in extras)):
        return False
    return a.numel() > 0 and a.shape[1] <= WIDEST and (b is None or len(b) > 0)


@uncompiled
def direct_loss(
    a: Tensor, b: Tensor | None, scale: Tensor, relation: Relation, extras: Sequence[Extra], form: fused.Fused,
    both: bool, cosine: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Mean over the rows that have positives of (log-sum-exp - mean positive logit), then over directions.

    Args:
        a: [n, D], n and D 1 or more. b: [k, D] of the same type, k 1 or more; None: a symmetric matrix, as `contrast`.
        scale: one float32, above 0; at most NARROW with `cosine`, else such that no logit exceeds NARROW.
        relation: of both sides. extras: more keys for a's rows. both: b's rows are queries as well.
        cosine: rows are normalised first, including those of extras.

    Returns:
        The loss and, without gradient, the positives' mean share of the soft-max from a to b; float32 scalars.
    """
    with torch.autocast(a.device.type, enabled=False):
        found: tuple[Tensor, Tensor] = _Direct.apply(a, b, scale, relation, extras, form, both, cosine)  # type: ignore[no-untyped-call]
    return found


class _Direct(torch.autograd.Function):
    """Rows of both sides are multiplied by the square root of the scale: one kernel, and one rounding, serves both."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor | None, scale: Tensor, relation: Relation, extras: Sequence[Extra],
        form: fused.Fused, both: bool, cosine: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        from multicl.ops import direct_kernels

        n, k, other = len(a), 0 if b is None else len(b), a if b is None else b
        x = a.new_empty(a.shape, dtype=form.products)
        y = x if b is None else b.new_empty(b.shape, dtype=form.products)
        inverse = scale.new_empty(n + k if cosine else 1)
        first = Block(x, y, relation.a, relation.b, relation.equal_ids, symmetric=b is None)
        first.columns = 0 if b is None else n if both else None
        blocks = [first]
        running = RunningOnGpu(n + k if both else n, (1.0,), True, False, scale)
        loss, share, weights = scale.new_empty(()), scale.new_empty(()), scale.new_empty(2)
        with on(a.device):
            _ready(a, other, scale, x, y, inverse, k, cosine)
            for extra in (one for one in extras if len(one.z)):
                keys, side = x.new_empty(extra.z.shape), Side(extra.row, extra.id)
                _ready(extra.z, extra.z, scale, keys, keys, scale.new_empty(len(keys)), 0, cosine)
                blocks.append(Block(x, keys, relation.a, side, relation.equal_ids, extra.same_row))
            for block in blocks:
                form.forward(block, running)
            size = running.sums.shape[1]
            direct_kernels.mean[(1,)](running.sums, loss, share, weights, n, size, BOTH=size > n, BLOCK=AT_ONCE)
        none = x.new_empty(0)  # saved tensors are freed by backward, but ctx may live on
        ctx.blocks, ctx.form, ctx.cosine = [replace(block, x=none, y=none) for block in blocks], form, cosine
        ctx.save_for_backward(a, b, scale, inverse, running.sums, weights, x, *(block.y for block in blocks))
        ctx.mark_non_differentiable(share)
        ctx.set_materialize_grads(False)
        return loss, share

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        from multicl.ops import direct_kernels

        a, b, scale, inverse, sums, weights, x, *keys = ctx.saved_tensors
        if grads[0] is None:
            return (None,) * len(ctx.needs_input_grad)
        with torch.no_grad():
            n, size, wants_b = len(a), sums.shape[1], ctx.needs_input_grad[1]
            k, other = len(b) if wants_b else 0, b if wants_b else a
            rows, along = sums.new_empty(4, size), scale.new_empty(n + k)
            da = a.new_empty(a.shape)
            db = b.new_empty(b.shape) if wants_b else da
            rows_a, rows_b = _in_rows(a), _in_rows(other)
            grid, settings = _cut(n, k, a.shape[1], ctx.cosine)
            with on(a.device):
                direct_kernels.slopes[(-(-size // BLOCK),)](
                    grads[0], weights, sums, rows, n, size, BOTH=size > n, BLOCK=BLOCK
                )
                share, positive, only, single = rows.unbind()
                slopes = Slopes((1.0,), share[None], None, positive, only, single)
                blocks = [replace(block, x=x, y=y) for block, y in zip(ctx.blocks, keys, strict=True)]
                dx, dy = ctx.form.backward(blocks[0], slopes, wants_b or b is None)
                for block in blocks[1:]:
                    dx += ctx.form.backward(block, slopes, False)[0]
                direct_kernels.home[grid](
                    dx, dy, rows_a, rows_b, scale, inverse, da, db, along, n, k, rows_a.stride(0), rows_b.stride(0),
                    **settings,
                )  # fmt: skip
            d_scale = None
            if ctx.needs_input_grad[2]:  # a symmetric matrix counts each logit in two rows
                total = along[:n].sum(dtype=torch.float64) / (2 if b is None else 1)
                d_scale = total.to(scale.dtype).view_as(scale)
            found = (da, db if wants_b else None, d_scale, *(None,) * 5)
        wants = next(z for z in (a, b, scale) if z is not None and z.requires_grad)
        return once(found, wants, "multicl.ops.plain.contrast can be")


def _ready(
    a: Tensor, b: Tensor, scale: Tensor, x: Tensor, y: Tensor, inverse: Tensor, k: int, cosine: bool
) -> None:  # fmt: skip
    """Write rows of a and the first k of b, prepared for the products, to x and y."""
    from multicl.ops import direct_kernels

    a, b = _in_rows(a), _in_rows(b)
    grid, settings = _cut(len(a), k, a.shape[1], cosine)
    direct_kernels.ready[grid](
        a, b, scale, x, y, inverse, len(a), k, a.stride(0), b.stride(0), SHORTEST, **settings
    )  # fmt: skip


def _in_rows(z: Tensor) -> Tensor:
    """z, or a copy where the numbers of a row are not adjacent in memory."""
    return z if z.stride(1) == 1 else z.contiguous()


def _cut(n: int, k: int, width: int, cosine: bool) -> tuple[tuple[int], dict[str, Any]]:
    """The grid of the row kernels, and their compile-time settings."""
    settings = sizes(width)
    rows = settings["BLOCK"]
    return (-(-n // rows) - (-k // rows),), {"COSINE": cosine, **settings}
