"""The Triton kernels of the fused form, and nothing else: `multicl.ops.fused` launches them. Triton is for Linux only.

Of many ids, few tiles hold an entry that is special: positive, ignored, self or beyond the matrix. All others are
spared the masks, which would not fit into registers.

Both make logits a tile at a time from rows x [n, D], which have the scale in them, and y [k, D], in the products'
precision with float32 sums, and compare the rows' int64 ids. Names in capitals are settled when a kernel is compiled:
    WIDTH      D
    TILTS      1 or 2: how many of tilt_0 and tilt_1 are asked for
    WIDE       rows have shifts of their own; else logits are narrow, and exponentials are summed as they are
    SELF       "counts"; "left out": the diagonal counts nowhere; "half": nor does what is below it
    EQUAL, OWN what equal ids and the query's own row mean, as in `multicl.ops.relation.related`
    INSIDE     positives are in the sums
    PRECISION  of float32 products; BM, BN, BD: rows, columns and depth of a tile
"""
# mypy: ignore-errors
# Triton's language only looks like Python.

import triton
import triton.language as tl

LOWEST = tl.constexpr(-1e30)


@triton.jit
def _product(x, y, rows, columns, n, k, WIDTH: tl.constexpr, PRECISION: tl.constexpr, BD: tl.constexpr):
    """[BM, BN] float32 logits; 0 outside of the matrix."""
    logits = tl.zeros([rows.shape[0], columns.shape[0]], tl.float32)
    of_x = x + rows.to(tl.int64)[:, None] * WIDTH
    of_y = y + columns.to(tl.int64)[None, :] * WIDTH
    for start in range(0, WIDTH, BD):
        at = start + tl.arange(0, BD)
        some_x = tl.load(of_x + at[None, :], (rows < n)[:, None] & (at < WIDTH)[None, :], 0.0)
        some_y = tl.load(of_y + at[:, None], (at < WIDTH)[:, None] & (columns < k)[None, :], 0.0)
        logits = tl.dot(some_x, some_y, logits, input_precision=PRECISION)
    return logits


@triton.jit
def _any_special(
    x_row, x_id, y_row, y_id, first_row, first_column, rows, columns, n, k,
    SELF: tl.constexpr, OWN: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Whether a tile holds more than negatives. Equal rows have equal ids, but for a queue's."""
    of_x, of_y = tl.load(x_id + rows, rows < n, 0), tl.load(y_id + columns, columns < k, 0)
    special = of_x[:, None] == of_y[None, :]
    if OWN == "ignore":
        of_x, of_y = tl.load(x_row + rows, rows < n, 0), tl.load(y_row + columns, columns < k, 0)
        special = special | (of_x[:, None] == of_y[None, :])
    found = (tl.max(special.to(tl.int32)) > 0) | (first_row + BM > n) | (first_column + BN > k)
    if SELF != "counts":
        found = found | ((first_column < first_row + BM) & (first_column + BN > first_row))
    return found


@triton.jit
def _relate(
    x_row, x_id, y_row, y_id, rows, columns, n, k,
    SELF: tl.constexpr, EQUAL: tl.constexpr, OWN: tl.constexpr,
):  # fmt: skip
    """[BM, BN] masks: positives, negatives; entries outside of the matrix are neither."""
    of_x, of_y = tl.load(x_id + rows, rows < n, 0), tl.load(y_id + columns, columns < k, 0)
    same = of_x[:, None] == of_y[None, :]
    negative = of_x[:, None] != of_y[None, :]
    if EQUAL == "positive" and OWN != "ignore":
        positive = same
    elif OWN == "negative":
        positive = same & negative  # none
    else:
        of_x, of_y = tl.load(x_row + rows, rows < n, 0), tl.load(y_row + columns, columns < k, 0)
        negative = negative & (of_x[:, None] != of_y[None, :])
        if OWN == "positive":
            positive = of_x[:, None] == of_y[None, :]
        elif EQUAL == "positive":
            positive = same & (of_x[:, None] != of_y[None, :])
        else:
            positive = same & negative
    counts = (rows < n)[:, None] & (columns < k)[None, :]
    if SELF == "left out":
        counts = counts & (rows[:, None] != columns[None, :])
    if SELF == "half":
        counts = counts & (rows[:, None] < columns[None, :])
    return positive & counts, negative & counts


@triton.jit
def _raise(most, shift, others_0, others_1, inside_0, inside_1, tilt_0, tilt_1, TILTS: tl.constexpr):
    """Let the shifts be at least `most`: the new shifts, and what the sums are over them."""
    new = tl.maximum(shift, most)
    factor = tl.exp(tilt_0 * (shift - new))
    others_0, inside_0 = others_0 * factor, inside_0 * factor
    if TILTS == 2:
        factor = tl.exp(tilt_1 * (shift - new))
        others_1, inside_1 = others_1 * factor, inside_1 * factor
    return new, others_0, others_1, inside_0, inside_1


@triton.jit
def _sum(values, columns, k, total, COLUMNS: tl.constexpr):
    """[BM] sums of the rows; those of the columns are added to `total`."""
    if COLUMNS:
        tl.atomic_add(total + columns, tl.sum(values, 0), columns < k, sem="relaxed")
    return tl.sum(values, 1)


@triton.jit(do_not_specialize=["n", "k", "size", "span"])
def sums(
    x, y, x_row, x_id, y_row, y_id,
    parts, shifts,  # [spans, 2 * TILTS + 2, n] others, inside, positive, count; [spans, n] where WIDE
    others, inside, positive, count,  # of the columns, in rows of `size`: the sums are added to them where COLUMNS
    n, k, size, span, tilt_0, tilt_1,
    WIDTH: tl.constexpr, TILTS: tl.constexpr, WIDE: tl.constexpr, COLUMNS: tl.constexpr, SELF: tl.constexpr,
    INSIDE: tl.constexpr, EQUAL: tl.constexpr, OWN: tl.constexpr, PRECISION: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Statistics of BM rows over a span of columns, of which there are `span`, some BN; and of the columns by atomics.

    Program (i, s) has the i-th rows and the s-th span. Columns have no shifts: COLUMNS and WIDE exclude each other.
    """
    first_row, part = tl.program_id(0) * BM, tl.program_id(1)
    rows = first_row + tl.arange(0, BM)
    start, stop = part * span, tl.minimum(part * span + span, k)
    if SELF == "half":
        start = tl.maximum(start, first_row // BN * BN)
    others_0 = tl.zeros([BM], tl.float32)
    others_1, inside_0, inside_1 = others_0, others_0, others_0
    sum_positive, number, shift = others_0, others_0, others_0
    if WIDE:
        shift += LOWEST
    first_column = start
    while first_column < stop:  # Triton's interpreter takes no range that is not constant
        columns = first_column + tl.arange(0, BN)
        logits = _product(x, y, rows, columns, n, k, WIDTH, PRECISION, BD)
        if _any_special(x_row, x_id, y_row, y_id, first_row, first_column, rows, columns, n, k, SELF, OWN, BM, BN):
            is_positive, is_negative = _relate(x_row, x_id, y_row, y_id, rows, columns, n, k, SELF, EQUAL, OWN)
            sum_positive += _sum(tl.where(is_positive, logits, 0.0), columns, k, positive, COLUMNS)
            number += _sum(is_positive.to(tl.float32), columns, k, count, COLUMNS)
            if INSIDE:
                own = tl.where(is_positive, logits, -float("inf"))
                if WIDE:
                    shift, others_0, others_1, inside_0, inside_1 = _raise(
                        tl.max(own, 1), shift, others_0, others_1, inside_0, inside_1, tilt_0, tilt_1, TILTS
                    )
                e = tl.exp(tilt_0 * (own - shift[:, None]))
                inside_0 += _sum(e, columns, k, inside, COLUMNS)
                if TILTS == 2:
                    e = tl.exp(tilt_1 * (own - shift[:, None]))
                    inside_1 += _sum(e, columns, k, inside + size, COLUMNS)
            logits = tl.where(is_negative, logits, -float("inf"))
        if WIDE:
            shift, others_0, others_1, inside_0, inside_1 = _raise(
                tl.max(logits, 1), shift, others_0, others_1, inside_0, inside_1, tilt_0, tilt_1, TILTS
            )
        others_0 += _sum(tl.exp(tilt_0 * (logits - shift[:, None])), columns, k, others, COLUMNS)
        if TILTS == 2:
            others_1 += _sum(tl.exp(tilt_1 * (logits - shift[:, None])), columns, k, others + size, COLUMNS)
        first_column += BN
    out = parts + part * (2 * TILTS + 2) * n + rows
    tl.store(out, others_0, rows < n)
    tl.store(out + TILTS * n, inside_0, rows < n)
    if TILTS == 2:
        tl.store(out + n, others_1, rows < n)
        tl.store(out + 3 * n, inside_1, rows < n)
    tl.store(out + 2 * TILTS * n, sum_positive, rows < n)
    tl.store(out + (2 * TILTS + 1) * n, number, rows < n)
    if WIDE:
        tl.store(shifts + part * n + rows, shift, rows < n)


@triton.jit
def _slopes(
    logits, at, here, sums, lse, size, tilt_0, tilt_1, TILTS: tl.constexpr, WIDE: tl.constexpr, axis: tl.constexpr
):
    """What the sums `at` of a tile's rows (axis 1) or columns (axis 0) ask of its logits: [BM, BN]."""
    shift = tl.zeros([at.shape[0]], tl.float32)
    if WIDE:
        shift = tl.load(lse + at, here, 0.0)
    slopes = tl.exp(tilt_0 * logits - tl.expand_dims(shift, axis)) * tl.expand_dims(tl.load(sums + at, here, 0.0), axis)
    if TILTS == 2:
        if WIDE:
            shift = tl.load(lse + size + at, here, 0.0)
        factor = tl.expand_dims(tl.load(sums + size + at, here, 0.0), axis)
        slopes += tl.exp(tilt_1 * logits - tl.expand_dims(shift, axis)) * factor
    return slopes


@triton.jit
def _slopes_of_positives(slopes, at, here, positive, only, single, INSIDE: tl.constexpr, axis: tl.constexpr):
    """The same of positives, all of it; `slopes` is what the sums ask. [BM, BN]."""
    own = tl.expand_dims(tl.load(positive + at, here, 0.0), axis) + tl.zeros_like(slopes)
    if INSIDE:
        is_single = tl.expand_dims(tl.load(single + at, here, 0), axis) != 0
        own = tl.where(is_single, tl.expand_dims(tl.load(only + at, here, 0.0), axis), own + slopes)
    return own


@triton.jit(do_not_specialize=["n", "k", "size", "row_at", "column_at"])
def weights(
    x, y, x_row, x_id, y_row, y_id,
    out,  # [n, stride]
    sums, lse, positive, only, single,  # of `Slopes`; sums and lse in rows of `size`
    n, k, stride, size, row_at, column_at, tilt_0, tilt_1,
    WIDTH: tl.constexpr, TILTS: tl.constexpr, WIDE: tl.constexpr, COLUMNS: tl.constexpr, SELF: tl.constexpr,
    INSIDE: tl.constexpr, EQUAL: tl.constexpr, OWN: tl.constexpr, PRECISION: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """dL/dlogit, written to `out` in its own type; program (j, i) has the i-th rows and the j-th columns.

    The first row's statistics stand at row_at, the first column's, where COLUMNS, at column_at.
    """
    first_row, first_column = tl.program_id(1) * BM, tl.program_id(0) * BN
    rows, columns = first_row + tl.arange(0, BM), first_column + tl.arange(0, BN)
    logits = _product(x, y, rows, columns, n, k, WIDTH, PRECISION, BD)
    at, at_column = row_at + rows, column_at + columns
    slopes = _slopes(logits, at, rows < n, sums, lse, size, tilt_0, tilt_1, TILTS, WIDE, 1)
    of_columns = tl.zeros_like(slopes)
    if COLUMNS:
        of_columns = _slopes(logits, at_column, columns < k, sums, lse, size, tilt_0, tilt_1, TILTS, WIDE, 0)
    whole = slopes + of_columns
    if _any_special(x_row, x_id, y_row, y_id, first_row, first_column, rows, columns, n, k, SELF, OWN, BM, BN):
        is_positive, is_negative = _relate(x_row, x_id, y_row, y_id, rows, columns, n, k, SELF, EQUAL, OWN)
        own = _slopes_of_positives(slopes, at, rows < n, positive, only, single, INSIDE, 1)
        if COLUMNS:
            own += _slopes_of_positives(of_columns, at_column, columns < k, positive, only, single, INSIDE, 0)
        whole = tl.where(is_positive, own, tl.where(is_negative, whole, 0.0))
    places = out + rows.to(tl.int64)[:, None] * stride + columns[None, :]
    tl.store(places, whole.to(out.dtype.element_ty), (rows < n)[:, None] & (columns < k)[None, :])
