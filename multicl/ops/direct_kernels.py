"""The Triton kernels of `multicl.ops.direct`: the steps before the products and after them, in one launch each.

Names in capitals are compile-time constants: WIDTH of a row; ROOM, a power of 2 of WIDTH or more; BLOCK, rows of a
program or of a loop's step; COSINE, rows are normalised first; BOTH, there are two directions.
"""
# mypy: ignore-errors
# Triton's language only looks like Python.

import triton
import triton.language as tl


@triton.jit
def _rows(first, n, stride, WIDTH: tl.constexpr, ROOM: tl.constexpr, BLOCK: tl.constexpr):
    """BLOCK rows from `first` on, a mask of the entries that exist, and their offsets where rows are `stride` apart."""
    rows, at = first + tl.arange(0, BLOCK), tl.arange(0, ROOM)
    return rows, (rows < n)[:, None] & (at < WIDTH)[None, :], rows.to(tl.int64)[:, None] * stride + at[None, :]


@triton.jit
def _ready(
    z, scale, out, inverse, first, n, stride, shortest,
    COSINE: tl.constexpr, WIDTH: tl.constexpr, ROOM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    rows, here, places = _rows(first, n, stride, WIDTH, ROOM, BLOCK)
    x = tl.load(z + places, here, 0.0).to(tl.float32)
    if COSINE:
        norm = tl.sqrt_rn(tl.sum(x * x, 1))
        factor = tl.where(norm < shortest, 0.0, tl.div_rn(tl.full([BLOCK], 1.0, tl.float32), norm))
        tl.store(inverse + rows, factor, rows < n)
        x = x * factor[:, None]
    x = x * tl.sqrt_rn(tl.load(scale))
    _, _, places = _rows(first, n, WIDTH, WIDTH, ROOM, BLOCK)
    tl.store(out + places, x.to(out.dtype.element_ty), here)


@triton.jit(do_not_specialize=["n", "k"])
def ready(
    a, b, scale,  # [n, WIDTH] in rows of stride_a; [k, WIDTH] in rows of stride_b; [1]
    x, y, inverse,  # [n, WIDTH] and [k, WIDTH] rows for the products; [n + k] inverse norms where COSINE
    n, k, stride_a, stride_b, shortest,
    COSINE: tl.constexpr, WIDTH: tl.constexpr, ROOM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Rows of both sides times the square root of the scale, so that their products are logits."""
    program, of_a = tl.program_id(0), tl.cdiv(n, BLOCK)
    if program < of_a:
        _ready(a, scale, x, inverse, program * BLOCK, n, stride_a, shortest, COSINE, WIDTH, ROOM, BLOCK)
    else:
        first = (program - of_a) * BLOCK
        _ready(b, scale, y, inverse + n, first, k, stride_b, shortest, COSINE, WIDTH, ROOM, BLOCK)


@triton.jit
def _home(
    given, z, scale, inverse, out, along, first, n, stride,
    COSINE: tl.constexpr, WIDTH: tl.constexpr, ROOM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    rows, here, places = _rows(first, n, stride, WIDTH, ROOM, BLOCK)
    x = tl.load(z + places, here, 0.0).to(tl.float32)
    _, _, places = _rows(first, n, WIDTH, WIDTH, ROOM, BLOCK)
    grad = tl.load(given + places, here, 0.0)
    root = tl.sqrt_rn(tl.load(scale))
    factor = root + tl.zeros([BLOCK], tl.float32)
    if COSINE:
        length = tl.load(inverse + rows, rows < n, 0.0)
        x = x * length[:, None]
        factor = factor * length
    share = tl.sum(grad * x, 1)
    tl.store(along + rows, share / root, rows < n)
    if COSINE:
        grad = grad - share[:, None] * x
    grad = grad * factor[:, None]
    tl.store(out + places, grad.to(out.dtype.element_ty), here)


@triton.jit(do_not_specialize=["n", "k"])
def home(
    of_x, of_y, a, b, scale, inverse,  # [n, WIDTH] and [k, WIDTH] gradients of the rows for the products; as in `ready`
    out_a, out_b, along,  # gradients of a and b; [n + k] each row's part of the scale's
    n, k, stride_a, stride_b,
    COSINE: tl.constexpr, WIDTH: tl.constexpr, ROOM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Backward of `ready`."""
    program, of_a = tl.program_id(0), tl.cdiv(n, BLOCK)
    if program < of_a:
        first = program * BLOCK
        _home(of_x, a, scale, inverse, out_a, along, first, n, stride_a, COSINE, WIDTH, ROOM, BLOCK)
    else:
        first = (program - of_a) * BLOCK
        _home(of_y, b, scale, inverse + n, out_b, along + n, first, k, stride_b, COSINE, WIDTH, ROOM, BLOCK)


@triton.jit
def _mean(sums, rows, size, BLOCK: tl.constexpr):
    """Of the first `rows` rows, those with positives: mean loss, positives' mean share of the soft-max; number or 1."""
    loss = tl.zeros([BLOCK], tl.float32)
    share, number = loss, loss
    start = 0
    while start < rows:
        at = start + tl.arange(0, BLOCK)
        here = at < rows
        positives = tl.load(sums + 3 * size + at, here, 0.0)
        total = tl.load(sums + at, here, 1.0) + tl.load(sums + size + at, here, 0.0)
        row = tl.log(total) - tl.load(sums + 2 * size + at, here, 0.0) / tl.maximum(positives, 1.0)
        loss += tl.where(positives > 0, row, 0.0)
        share += tl.where(positives > 0, tl.exp(-row), 0.0)
        number += (positives > 0).to(tl.float32)
        start += BLOCK
    several = tl.maximum(tl.sum(number, 0), 1.0)
    return tl.sum(loss, 0) / several, tl.sum(share, 0) / several, several


@triton.jit(do_not_specialize=["first", "size"])
def mean(
    sums,  # [4, size] of `Running`: the `first` rows and, where BOTH, the others
    out, confidence, weights,  # [1] the loss; [1] the share in the first direction; [2] weight of a row in either
    first, size, BOTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`direct_loss`, by one program, so that the order of summation is fixed."""
    loss, share, number = _mean(sums, first, size, BLOCK)
    weight = 1 / number
    if BOTH:
        other, _, more = _mean(sums + first, size - first, size, BLOCK)
        loss, weight = (loss + other) / 2, weight / 2
        tl.store(weights + 1, 0.5 / more)
    tl.store(out, loss)
    tl.store(confidence, share)
    tl.store(weights, weight)


@triton.jit(do_not_specialize=["first", "size"])
def slopes(
    grad, weights, sums,  # [1]; as in `mean`
    out,  # [4, size] `Slopes`' sums, positive, only and single
    first, size, BOTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Each row's coefficients of dL/dlogit, as `Slopes`."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = at < size
    weight = tl.load(weights) + tl.zeros([BLOCK], tl.float32)
    if BOTH:
        weight = tl.where(at < first, weight, tl.load(weights + 1))
    others, positives = tl.load(sums + at, here, 1.0), tl.load(sums + 3 * size + at, here, 0.0)
    total = others + tl.load(sums + size + at, here, 0.0)
    of_lse = tl.where(positives > 0, tl.load(grad) * weight, 0.0)
    share = tl.where(total == 0, 0.0, of_lse / total)
    positive = -of_lse / tl.maximum(positives, 1.0)
    tl.store(out + at, share, here)
    tl.store(out + size + at, positive, here)
    tl.store(out + 2 * size + at, positive + of_lse - share * others, here)
    tl.store(out + 3 * size + at, (positives == 1).to(tl.float32), here)
