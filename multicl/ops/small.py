"""Losses of a small batch in one process, of pairs or of labelled rows, with the whole matrix in memory.

Most people's batches are small. There the overhead of each step costs more than the products, so this form takes as few
steps as possible; its soft-max losses normalise rows themselves. Values and gradients are those of `unit` and
`contrast`, and of `sigmoid_loss`, which handle all other cases.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from multicl.ops.once import once
from multicl.ops.running import NARROW
from multicl.ops.uncompiled import uncompiled
from multicl.ops.unit import unit_rows, unit_slopes

LARGEST = 2**20
"""Most entries that the matrix may have."""


def is_small(rows: int, scale: Tensor | float) -> bool:
    """Whether `paired_loss` takes that many rows (in a symmetric matrix, those of both views) and that scale."""
    if not 0 < rows * rows <= LARGEST:
        return False  # before the scale is read, which synchronises with a GPU
    return abs(float(scale.detach() if isinstance(scale, Tensor) else scale)) <= NARROW


@uncompiled
def paired_loss(a: Tensor, b: Tensor | None, scale: Tensor, both: bool = True) -> Tensor:
    """Mean over rows of (log-sum-exp - the positive's logit).

    Args:
        a, b: [N, D], compared by cosine; rows i of a and b are each other's positive. b None: a holds two views
            [2N, D]; rows i and N + i are each other's positive, and no row is its own key.
        scale: [1] 1 / temperature. both: the mean of both directions; a symmetric matrix has only one.

    Returns:
        Scalar, float32 or better.
    """
    with torch.autocast(a.device.type, enabled=False):
        form = _Paired if b is None or both else _OneWay
        loss: Tensor = form.apply(a, b, scale)  # type: ignore[no-untyped-call]
    return loss


class _OneWay(torch.autograd.Function):
    """Only a->b: weights of the matrix's rows can then be applied to their vectors."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
        (u, of_a), (v, of_b) = unit_rows(a), unit_rows(b)
        e = ((u * scale) @ v.T).exp_()
        place = e.diagonal()
        inside = place.clone()
        place.zero_()
        others = e.sum(1)
        place.sub_(others)  # a positive's slope: minus the sum of all others
        ctx.save_for_backward(a, b, scale, u, of_a, v, of_b, e, others + inside)
        return torch.log1p(others / inside).mean()  # log-sum-exp - logit would cancel near 0

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, u, of_a, v, of_b, e, total = ctx.saved_tensors
        with torch.no_grad():
            weight = (scale * grads[0] / len(u) / total)[:, None]
            du = (e @ v).mul_(weight)
            d_scale = ((u * du).sum() / scale).view_as(scale) if ctx.needs_input_grad[2] else None
            db = unit_slopes(e.T @ (u * weight), v, of_b, b.dtype) if ctx.needs_input_grad[1] else None
            found = (unit_slopes(du, u, of_a, a.dtype), db, d_scale)
        wants = next(z for z in (a, b, scale) if z.requires_grad)
        return once(found, wants, "multicl.ops.plain.contrast can be")


class _Paired(torch.autograd.Function):
    """Both directions, or two views in one symmetric matrix."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor | None, scale: Tensor) -> Tensor:
        u, of_a = unit_rows(a)
        v, of_b = (u, of_a) if b is None else unit_rows(b)
        x = u * scale
        e = x @ v.T
        places = _positives(e, b is None)
        if b is None:
            e.fill_diagonal_(-torch.inf)
        e.exp_()
        inside = torch.cat(places) if len(places) > 1 else places[0].clone()
        for place in places:
            place.zero_()
        others = [e.sum(dim) for dim in ((1,) if b is None else (1, 0))]
        losses = [torch.log1p(other / inside).sum() for other in others]  # log-sum-exp - logit would cancel near 0
        ctx.save_for_backward(a, b, scale, u, of_a, v, of_b, x, e, *others, *(other + inside for other in others))
        loss: Tensor = (losses[0] if b is None else losses[0] + losses[1]) / (len(a) * len(losses))
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, u, of_a, v, of_b, x, e, *sums = ctx.saved_tensors
        symmetric = b is None
        with torch.no_grad():
            others, totals = sums[: len(sums) // 2], sums[len(sums) // 2 :]
            each = grads[0] / (len(u) * len(totals))
            shares = [each / total for total in totals]  # slope of each row's exponentials
            only = shares[0] * others[0]  # minus the slope of its positive: the sum of all others'
            only = only + (only.roll(len(u) // 2) if symmetric else shares[1] * others[1])
            slope = e * (shares[0][:, None] + shares[-1])
            parts = only.neg_().chunk(2) if symmetric else (only.neg_(),)
            for place, value in zip(_positives(slope, symmetric), parts, strict=True):
                place.copy_(value)
            du = slope @ v
            d_scale = None
            if ctx.needs_input_grad[2]:
                d_scale = ((u * du).sum() / (2 if symmetric else 1)).view_as(scale)
            db = unit_slopes(slope.T @ x, v, of_b, b.dtype) if ctx.needs_input_grad[1] else None
            found = (unit_slopes(du.mul_(scale), u, of_a, a.dtype), db, d_scale)
        wants = next(z for z in (a, b, scale) if z is not None and z.requires_grad)
        return once(found, wants, "multicl.ops.plain.contrast can be")


@uncompiled
def labelled_loss(z: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    """Mean over the rows that have positives of (log-sum-exp - mean positive logit); 0 if no row has any.

    Positives need no mask: the sum of a row's logits with its class is one product, with the class's summed rows.

    Args:
        z: [N, D], compared by cosine; N 1 or more and N * N at most LARGEST. labels: [N] rows of equal label are each
            other's positives; on a GPU this synchronises. scale: [1] 1 / temperature, at most NARROW.

    Returns:
        Scalar, float32 or better.
    """
    with torch.autocast(z.device.type, enabled=False):
        loss: Tensor = _Labelled.apply(z, labels, scale)  # type: ignore[no-untyped-call]
    return loss


class _Labelled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
        _, code, sizes = labels.unique(return_inverse=True, return_counts=True)
        u, of_z = unit_rows(z)
        x = u * scale
        e = (x @ u.T).fill_diagonal_(-torch.inf).exp_()
        one, other = _couples(code, sizes)
        inside = e[one, other]
        e[one, other] = e[other, one] = 0
        total = e.sum(1)
        positives = (sizes - 1)[code]
        valid = (positives > 0).to(u.dtype)
        share = valid / positives.clamp_(min=1)  # weight of a positive in its row's mean
        own = _sums(u, code, len(sizes)).sub_(u)
        rows = torch.addcmul(total.log(), torch.linalg.vecdot(x, own), share, value=-1)
        rest = total[one], total[other]
        for at, others in zip((one, other), rest, strict=True):
            rows[at] = torch.log1p(others / inside)  # log-sum-exp - logit would cancel near 0
            total[at] = others + inside
            share[at] = 0
        each = valid / valid.sum().clamp_(min=1)  # weight of a row in the mean
        ctx.classes = len(sizes)
        ctx.save_for_backward(z, scale, u, of_z, code, e, total, own, share, each, one, other, *rest)
        loss: Tensor = rows.masked_fill_(valid == 0, 0.0) @ each
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        z, scale, u, of_z, code, e, total, own, share, each, one, other, *rest = ctx.saved_tensors
        with torch.no_grad():
            of_sum = torch.where(each > 0, grads[0] * each / total, 0.0)
            of_positive = (grads[0] * each * share)[:, None]
            slope = e * (of_sum[:, None] + of_sum)
            only = of_sum[one] * rest[0] + of_sum[other] * rest[1]  # sum of all others: p - 1 would cancel near 1
            slope[one, other] = slope[other, one] = only.neg_()
            du = slope @ u
            weighed = u * of_positive
            du.addcmul_(of_positive, own, value=-1).sub_(_sums(weighed, code, ctx.classes).sub_(weighed))
            d_scale = ((u * du).sum() / 2).view_as(scale) if ctx.needs_input_grad[2] else None
            found = (unit_slopes(du.mul_(scale), u, of_z, z.dtype), None, d_scale)
        wants = next(x for x in (z, scale) if x.requires_grad)
        return once(found, wants, "multicl.ops.plain.contrast can be")


def _couples(code: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """(first rows, second rows) of the classes of two rows: each is the other's only positive."""
    first = (sizes.cumsum(0) - sizes)[sizes == 2]
    order = code.argsort()
    return order[first], order[first + 1]


def _sums(z: Tensor, code: Tensor, classes: int) -> Tensor:
    """[N, D] for each row, the sum of all rows of its class."""
    return z.new_zeros(classes, z.shape[1]).index_add_(0, code, z)[code]


@uncompiled
def paired_sigmoid(a: Tensor, b: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """-1/N sum_ij log sigmoid(y_ij (scale * a_i . b_j + bias)), y_ij = 1 where i = j, else -1.

    Args:
        a, b: [N, D], not normalised here; N 1 or more and N * N at most LARGEST. scale, bias: [1].

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
            db = (slope.T @ a).mul_(shared) if ctx.needs_input_grad[1] else None
            found = (da.mul_(shared), db, d_scale, d_bias)
        wants = next(z for z in (a, b, scale, bias) if z.requires_grad)
        return once(found, wants, "it is computed in forward, without a graph")


def _positives(matrix: Tensor, symmetric: bool) -> tuple[Tensor, ...]:
    """Views of the positives' entries: the diagonal, or the two diagonals at N rows' distance of a symmetric matrix."""
    half = len(matrix) // 2
    return (matrix.diagonal(half), matrix.diagonal(-half)) if symmetric else (matrix.diagonal(),)
