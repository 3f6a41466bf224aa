"""Losses of a small batch in one process, whose rows are about different things: the matrix written out.

Small batches are most people's, and there not the products cost but the steps around them: this form takes as few of
them as can be. Same values and gradients as by way of `contrast`, which does all else.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from multicl.ops.once import once
from multicl.ops.running import NARROW

LARGEST = 2**20
"""Entries of the matrix, at most."""


def is_small(rows: int, scale: Tensor | float) -> bool:
    """Whether `paired_loss` takes unit vectors of that many rows (of a symmetric matrix: of both views) and scale."""
    value = float(scale.detach()) if isinstance(scale, Tensor) else scale
    return 0 < rows * rows <= LARGEST and abs(value) <= NARROW


@torch.compiler.disable  # type: ignore[untyped-decorator]
def paired_loss(a: Tensor, b: Tensor | None, scale: Tensor, both: bool = True) -> Tensor:
    """Mean over rows of log-sum-exp - the positive's logit.

    Args:
        a, b: [N, D] unit vectors, row i of the two each other's positive. b None: a holds two views [2N, D], rows i and
            N + i each other's positive, and no row its own key.
        scale: [1] 1 / temperature. both: the mean of both directions; of a symmetric matrix there is but one.

    Returns:
        Scalar in the type of a.
    """
    with torch.autocast(a.device.type, enabled=False):
        loss: Tensor = _Paired.apply(a, b, scale, both and b is not None)  # type: ignore[no-untyped-call]
    return loss


class _Paired(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor | None, scale: Tensor, both: bool) -> Tensor:
        x = a * scale
        e = x @ (a if b is None else b).T
        places = _positives(e, b is None)
        if b is None:
            e.fill_diagonal_(-torch.inf)
        e.exp_()
        inside = torch.cat(places) if len(places) > 1 else places[0].clone()
        for place in places:
            place.zero_()
        others = [e.sum(dim) for dim in ((1, 0) if both else (1,))]
        losses = [torch.log1p(other / inside).sum() for other in others]  # log-sum-exp - logit would cancel near 0
        ctx.symmetric = b is None
        ctx.save_for_backward(a, b, scale, x, e, *others, *(other + inside for other in others))
        loss: Tensor = (losses[0] + losses[1] if both else losses[0]) / (len(a) * len(losses))
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, x, e, *sums = ctx.saved_tensors
        with torch.no_grad():
            others, totals = sums[: len(sums) // 2], sums[len(sums) // 2 :]
            each = grads[0] / (len(a) * len(totals))
            shares = [each / total for total in totals]  # what a row gives to each of its exponentials
            only = shares[0] * others[0]  # to its positive, negated: what all others get
            column = shares[0] if ctx.symmetric else shares[1] if len(shares) > 1 else None
            if ctx.symmetric:
                only = only + only.roll(len(a) // 2)
            elif column is not None:
                only = only + column * others[1]
            slope = e * (shares[0][:, None] if column is None else shares[0][:, None] + column)
            parts = only.neg_().chunk(2) if ctx.symmetric else (only.neg_(),)
            for place, value in zip(_positives(slope, ctx.symmetric), parts, strict=True):
                place.copy_(value)
            da = slope @ (a if b is None else b)
            d_scale = None
            if ctx.needs_input_grad[2]:
                d_scale = ((a * da).sum() / (2 if b is None else 1)).view_as(scale)
            db = None if b is None else slope.T @ x
            found = (da.mul_(scale), db, d_scale, None)
        wants = next(z for z in (a, b, scale) if z is not None and z.requires_grad)
        return once(found, wants, "multicl.ops.plain.contrast can be")


@torch.compiler.disable  # type: ignore[untyped-decorator]
def paired_sigmoid(a: Tensor, b: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """-1/N sum_ij log sigmoid(y_ij (scale * a_i . b_j + bias)), y_ij = 1 where i = j, else -1.

    Args:
        a, b: [N, D] unit vectors, N 1 or more and N * N at most LARGEST. scale, bias: [1].

    Returns:
        Scalar in the type of a.
    """
    with torch.autocast(a.device.type, enabled=False):
        loss: Tensor = _PairedSigmoid.apply(a, b, scale, bias)  # type: ignore[no-untyped-call]
    return loss


class _PairedSigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        logits = torch.addmm(bias, a * scale, b.T)
        logits.diagonal().neg_()  # of a positive, log sigmoid(l) = -softplus(-l)
        loss: Tensor = softplus(logits, threshold=40).sum() / len(a)
        slope = logits.sigmoid_()
        slope.diagonal().neg_()
        ctx.save_for_backward(a, b, scale, bias, slope)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, bias, slope = ctx.saved_tensors
        with torch.no_grad():
            each = grads[0] / len(a)
            da = slope @ b
            d_scale = ((a * da).sum() * each).view_as(scale) if ctx.needs_input_grad[2] else None
            d_bias = (slope.sum() * each).view_as(bias) if ctx.needs_input_grad[3] else None
            shared = scale * each
            found = (da.mul_(shared), (slope.T @ a).mul_(shared), d_scale, d_bias)
        wants = next(z for z in (a, b, scale, bias) if z.requires_grad)
        return once(found, wants, "the form over ranks and tiles cannot be either")


def _positives(matrix: Tensor, symmetric: bool) -> tuple[Tensor, ...]:
    """Views of the positives' entries: the diagonal; of two views the two diagonals half-way."""
    half = len(matrix) // 2
    return (matrix.diagonal(half), matrix.diagonal(-half)) if symmetric else (matrix.diagonal(),)
