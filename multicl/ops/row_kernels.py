"""The Triton kernels on vectors of one value per row, and on single rows: each fuses a chain of small steps.

A GPU finishes such a step before the next can be launched, so a batch of a few thousand rows spends nearly all of its
time on launches. `multicl.ops.finish` and `multicl.ops.unit` launch these kernels, and say what they compute. Names in
capitals are compile-time constants; BLOCK: rows of a program, or of a loop's step. TILTS, WIDE and INSIDE are as in
`multicl.ops.kernels`.
"""
# mypy: ignore-errors
# Triton's language only looks like Python.

import triton
import triton.language as tl


@triton.jit
def _denominator(sums, at, here, size, t: tl.constexpr, TILTS: tl.constexpr, INSIDE: tl.constexpr):
    """A tilt's sum over the others, and its denominator: that and, where INSIDE, the sum over the positives."""
    others = tl.load(sums + t * size + at, here, 1.0)
    total = others
    if INSIDE:
        total = others + tl.load(sums + (TILTS + t) * size + at, here, 0.0)
    return others, total


@triton.jit
def _log(total, shift, at, here, tilt, WIDE: tl.constexpr):
    log = tl.log(total)
    if WIDE:
        log += tilt * tl.load(shift + at, here, 0.0)
    return log


@triton.jit(do_not_specialize=["size"])
def lse(
    sums, shift, out,  # [2 * TILTS + 2, size]; [size] where WIDE; [TILTS, size]
    size, tilt_0, tilt_1,
    TILTS: tl.constexpr, WIDE: tl.constexpr, INSIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`Running.lse`."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = at < size
    for t in tl.static_range(TILTS):
        tilt = tilt_0 if t == 0 else tilt_1
        _, total = _denominator(sums, at, here, size, t, TILTS, INSIDE)
        log = _log(total, shift, at, here, tilt, WIDE)
        tl.store(out + t * size + at, tl.where(total == 0, 0.0, log), here)


@triton.jit
def _either(a, b, at, first, here):
    """Values of rows that are split over two vectors: the `first` ones in a, the rest in b."""
    return tl.load(a + at, here & (at < first), 0.0) + tl.load(b + (at - first), here & (at >= first), 0.0)


@triton.jit(do_not_specialize=["size", "first"])
def slopes(
    sums, shift,  # as in `lse`
    lse_a, positive_a, lse_b, positive_b,  # gradients of the `first` rows, [TILTS, first] and [first], and of the rest
    out, single,  # [TILTS, (TILTS,) 1, 1; size] `Slopes`' sums, lse where WIDE, positive and only; [size] bool
    size, first, tilt_0, tilt_1,
    TILTS: tl.constexpr, WIDE: tl.constexpr, INSIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`Running.slopes`."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = at < size
    positive = _either(positive_a, positive_b, at, first, here)
    only = positive
    for t in tl.static_range(TILTS):
        tilt = tilt_0 if t == 0 else tilt_1
        of_lse = tilt * _either(lse_a + t * first, lse_b + t * (size - first), at, first, here)
        others, total = _denominator(sums, at, here, size, t, TILTS, INSIDE)
        share = tl.where(total == 0, 0.0, of_lse / total)
        only += of_lse - share * others
        if WIDE:
            log = _log(total, shift, at, here, tilt, WIDE)
            tl.store(out + (TILTS + t) * size + at, tl.where(total == 0, float("inf"), log), here)
            tl.store(out + t * size + at, of_lse, here)
        else:
            tl.store(out + t * size + at, share, here)
    last = 2 * TILTS if WIDE else TILTS
    tl.store(out + last * size + at, positive, here)
    tl.store(out + (last + 1) * size + at, only, here)
    tl.store(single + at, tl.load(sums + (2 * TILTS + 1) * size + at, here, 0.0) == 1, here)


@triton.jit
def _mean(lse, positive, positives, size, BLOCK: tl.constexpr):
    """Mean over the rows that have positives, and the number of these rows or 1."""
    total = tl.zeros([BLOCK], tl.float32)
    count = tl.zeros([BLOCK], tl.float32)
    start = 0
    while start < size:
        at = start + tl.arange(0, BLOCK)
        here = at < size
        number = tl.load(positives + at, here, 0.0)
        row = tl.load(lse + at, here, 0.0) - tl.load(positive + at, here, 0.0) / tl.maximum(number, 1.0)
        total += tl.where(number > 0, row, 0.0)
        count += (number > 0).to(tl.float32)
        start += BLOCK
    several = tl.maximum(tl.sum(count, 0), 1.0)
    return tl.sum(total, 0) / several, several


@triton.jit(do_not_specialize=["size_a", "size_b"])
def mean(
    lse_a, positive_a, positives_a, lse_b, positive_b, positives_b,  # [size_a] or [size_b] each
    out, counts,  # [1] the loss; [2] how many rows count in each direction
    size_a, size_b, BOTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`finish.mean_loss`, by one program, so that the order of summation is fixed."""
    loss, count = _mean(lse_a, positive_a, positives_a, size_a, BLOCK)
    tl.store(counts, count)
    if BOTH:
        other, count = _mean(lse_b, positive_b, positives_b, size_b, BLOCK)
        tl.store(counts + 1, count)
        loss = (loss + other) / 2
    tl.store(out, loss)


@triton.jit
def _mean_slopes(grad, count, positives, out, at, size):
    number = tl.load(positives + at, at < size, 0.0)
    of_lse = tl.where(number > 0, grad / tl.load(count), 0.0)
    tl.store(out + at, of_lse, at < size)
    tl.store(out + size + at, -of_lse / tl.maximum(number, 1.0), at < size)


@triton.jit(do_not_specialize=["size_a", "size_b"])
def mean_slopes(
    grad, counts, positives_a, positives_b, out_a, out_b,  # [1]; `mean`'s; [size]; [2, size]
    size_a, size_b, BOTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Backward of `mean`: gradients of the log-sums and of the positives' sums."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    given = tl.load(grad)
    if BOTH:
        given = given / 2
        _mean_slopes(given, counts + 1, positives_b, out_b, at, size_b)
    _mean_slopes(given, counts, positives_a, out_a, at, size_a)


@triton.jit(do_not_specialize=["n"])
def unit(
    z, u, inverse,  # [n, WIDTH] in rows of `stride`; [n, WIDTH] float32; [n]
    n, stride, shortest, WIDTH: tl.constexpr, ROOM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`multicl.ops.unit.unit`. ROOM: WIDTH or more, a power of 2."""
    rows, at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, ROOM)
    here = (rows < n)[:, None] & (at < WIDTH)[None, :]
    x = tl.load(z + rows.to(tl.int64)[:, None] * stride + at[None, :], here, 0.0).to(tl.float32)
    norm = tl.sqrt_rn(tl.sum(x * x, 1))
    factor = tl.where(norm < shortest, 0.0, tl.div_rn(tl.full([BLOCK], 1.0, tl.float32), norm))
    tl.store(u + rows.to(tl.int64)[:, None] * WIDTH + at[None, :], x * factor[:, None], here)
    tl.store(inverse + rows, factor, rows < n)


@triton.jit(do_not_specialize=["n"])
def unit_slopes(
    of_u, u, inverse, out,  # [n, WIDTH], inverse norms [n]
    n, WIDTH: tl.constexpr, ROOM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Backward of `unit`."""
    rows, at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, ROOM)
    here = (rows < n)[:, None] & (at < WIDTH)[None, :]
    places = rows.to(tl.int64)[:, None] * WIDTH + at[None, :]
    given, own = tl.load(of_u + places, here, 0.0), tl.load(u + places, here, 0.0)
    along = tl.sum(given * own, 1)
    grad = (given - along[:, None] * own) * tl.load(inverse + rows, rows < n, 0.0)[:, None]
    tl.store(out + places, grad.to(out.dtype.element_ty), here)
