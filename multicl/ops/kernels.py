"""The Triton kernels of the fused form, and nothing else: `multicl.ops.fused` launches them. Triton is for Linux only.

Where ids are many, few tiles are special: they hold an entry that is positive, ignored, self or outside of the matrix.
`mark` finds them. `sums` and `weights` then run twice: once over the plain tiles, without any mask and at the speed of
the products; and once over the special ones (SPECIAL), in smaller tiles, as masks take registers.

Both compute logits a tile at a time from rows x [n, D], already multiplied by the scale, and y [k, D], in the products'
precision with float32 sums; rows are related by their int64 ids. Names in capitals are compile-time constants:
    WIDTH      D
    TILTS      1 or 2: how many of tilt_0 and tilt_1 are used
    WIDE       each row has a shift of its own; else logits are narrow, and exponentials are summed without a shift
    SELF       "counts"; "left out": the diagonal counts nowhere; "half": nor do the entries below it
    EQUAL, OWN what equal ids and the query's own row mean, as in `multicl.ops.relation.related`
    INSIDE     positives are in the sums
    PRECISION  of float32 products; BM, BN, BD: rows, columns and depth of a tile
    MM, MN     rows and columns that share a mark, multiples of BM and BN
"""
# mypy: ignore-errors
# Triton's language only looks like Python.

import triton
import triton.language as tl

LOWEST = tl.constexpr(-1e30)
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _product(
    x, y, rows, columns, n, k, WIDTH: tl.constexpr, PRECISION: tl.constexpr, BD: tl.constexpr, INNER: tl.constexpr
):
    """[BM, BN] float32 logits; 0 outside of the matrix. INNER: the tile lies inside of it."""
    logits = tl.zeros([rows.shape[0], columns.shape[0]], tl.float32)
    of_x = x + rows.to(tl.int64)[:, None] * WIDTH
    of_y = y + columns.to(tl.int64)[:, None] * WIDTH
    for start in range(0, WIDTH, BD):
        at = start + tl.arange(0, BD)
        if INNER and WIDTH % BD == 0:
            some_x, some_y = tl.load(of_x + at[None, :]), tl.load(of_y + at[None, :])
        else:
            some_x = tl.load(of_x + at[None, :], (rows < n)[:, None] & (at < WIDTH)[None, :], 0.0)
            some_y = tl.load(of_y + at[None, :], (columns < k)[:, None] & (at < WIDTH)[None, :], 0.0)
        logits = tl.dot(some_x, some_y.T, logits, input_precision=PRECISION)
    return logits


@triton.jit
def _meet(x, y, rows, columns):
    """Whether x at `rows` and y at `columns` have a number in common."""
    some_x, some_y = tl.load(x + rows), tl.load(y + columns)
    found = (tl.max(some_x) >= tl.min(some_y)) & (tl.max(some_y) >= tl.min(some_x))
    if found:  # ids in order rarely get here
        found = tl.max((some_x[:, None] == some_y[None, :]).to(tl.int32)) > 0
    return found


@triton.jit(do_not_specialize=["n", "k"])
def mark(
    x_row, x_id, y_row, y_id,
    marks,  # [row tiles, column tiles] int8
    n, k, SELF: tl.constexpr, OWN: tl.constexpr, MM: tl.constexpr, MN: tl.constexpr,
):  # fmt: skip
    """Mark tiles that hold more than negatives, or reach outside of the matrix.

    Equal rows have equal ids, except in a queue: rows are compared only there. Program (j, i) marks tile [i, j].
    """
    i, j = tl.program_id(1), tl.program_id(0)
    first_row, first_column = i * MM, j * MN
    rows, columns = first_row + tl.arange(0, MM), first_column + tl.arange(0, MN)
    special = (first_row + MM > n) | (first_column + MN > k)
    if SELF != "counts":
        special = special | ((first_column < first_row + MM) & (first_column + MN > first_row))
    if not special:
        special = _meet(x_id, y_id, rows, columns)
        if OWN == "ignore":
            special = special | _meet(x_row, y_row, rows, columns)
    tl.store(marks + i.to(tl.int64) * tl.num_programs(0) + j, special.to(tl.int8))


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
    """Raise the shifts to at least `most`: returns the new shifts, and the sums rescaled to them."""
    new = tl.maximum(shift, most)
    factor = tl.exp(tilt_0 * (shift - new))
    others_0, inside_0 = others_0 * factor, inside_0 * factor
    if TILTS == 2:
        factor = tl.exp(tilt_1 * (shift - new))
        others_1, inside_1 = others_1 * factor, inside_1 * factor
    return new, others_0, others_1, inside_0, inside_1


@triton.jit
def _exp(tilt, logits, shift, WIDE: tl.constexpr):
    """exp(tilt * (logits - shift)) of a tile; one shift a row, where WIDE."""
    if WIDE:
        logits = logits - shift[:, None]
    return tl.exp2((tilt * LOG2_E) * logits)


@triton.jit
def _sum(values, columns, k, total, COLUMNS: tl.constexpr, SPECIAL: tl.constexpr):
    """[BM] row sums; where COLUMNS, column sums are added to `total`."""
    if COLUMNS:
        of_columns = tl.sum(values, 0)
        if SPECIAL:
            tl.atomic_add(total + columns, of_columns, columns < k, sem="relaxed")
        else:
            tl.atomic_add(total + columns, of_columns, sem="relaxed")
    return tl.sum(values, 1)


@triton.jit
def _put(places, values, here, ADD: tl.constexpr):
    if ADD:
        tl.atomic_add(places, values, here, sem="relaxed")
    else:
        tl.store(places, values, here)


@triton.jit(do_not_specialize=["n", "k", "size", "span", "across", "row_at", "column_at"])
def sums(
    x, y, x_row, x_id, y_row, y_id,
    marks,  # [row tiles, across]
    out, shifts,  # [spans, 2 * TILTS + 2, n] others, inside, positive, count; [spans, n] where WIDE; spans from row_at.
    # Where ADD, out is [2 * TILTS + 2, size]: row sums are added to it from row_at on, column sums from column_at on
    n, k, across, size, span, row_at, column_at, tilt_0, tilt_1,
    SPECIAL: tl.constexpr, WIDTH: tl.constexpr, TILTS: tl.constexpr, WIDE: tl.constexpr, ADD: tl.constexpr,
    COLUMNS: tl.constexpr, SELF: tl.constexpr, INSIDE: tl.constexpr, EQUAL: tl.constexpr, OWN: tl.constexpr,
    PRECISION: tl.constexpr, MM: tl.constexpr, MN: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Statistics of BM rows over `span` columns, a multiple of MN; where COLUMNS, also those of the columns.

    Program (i, s) has the i-th rows and the s-th span. ADD: add atomically, without shifts, which excludes WIDE.
    COLUMNS needs ADD.
    """
    first_row, part = tl.program_id(0) * BM, tl.program_id(1)
    rows = first_row + tl.arange(0, BM)
    start, stop = part * span, tl.minimum(part * span + span, k)
    if SELF == "half":
        start = tl.maximum(start, first_row // MN * MN)
    others = out + column_at
    inside, positive = others + TILTS * size, others + 2 * TILTS * size
    count = positive + size
    others_0 = tl.zeros([BM], tl.float32)
    others_1, inside_0, inside_1 = others_0, others_0, others_0
    sum_positive, number, shift = others_0, others_0, others_0
    if WIDE:
        shift += LOWEST
    of_marks = marks + (first_row // MM).to(tl.int64) * across
    first_column = start
    while first_column < stop:  # Triton's interpreter takes only constant ranges
        if (tl.load(of_marks + first_column // MN) != 0) == SPECIAL:
            columns = first_column + tl.arange(0, BN)
            logits = _product(x, y, rows, columns, n, k, WIDTH, PRECISION, BD, not SPECIAL)
            if SPECIAL:
                is_positive, is_negative = _relate(x_row, x_id, y_row, y_id, rows, columns, n, k, SELF, EQUAL, OWN)
                sum_positive += _sum(tl.where(is_positive, logits, 0.0), columns, k, positive, COLUMNS, SPECIAL)
                number += _sum(is_positive.to(tl.float32), columns, k, count, COLUMNS, SPECIAL)
                if INSIDE:
                    near = tl.where(is_positive, logits, -float("inf"))
                    if WIDE:
                        shift, others_0, others_1, inside_0, inside_1 = _raise(
                            tl.max(near, 1), shift, others_0, others_1, inside_0, inside_1, tilt_0, tilt_1, TILTS
                        )
                    inside_0 += _sum(_exp(tilt_0, near, shift, WIDE), columns, k, inside, COLUMNS, SPECIAL)
                    if TILTS == 2:
                        e = _exp(tilt_1, near, shift, WIDE)
                        inside_1 += _sum(e, columns, k, inside + size, COLUMNS, SPECIAL)
                logits = tl.where(is_negative, logits, -float("inf"))
            if WIDE:
                shift, others_0, others_1, inside_0, inside_1 = _raise(
                    tl.max(logits, 1), shift, others_0, others_1, inside_0, inside_1, tilt_0, tilt_1, TILTS
                )
            others_0 += _sum(_exp(tilt_0, logits, shift, WIDE), columns, k, others, COLUMNS, SPECIAL)
            if TILTS == 2:
                others_1 += _sum(_exp(tilt_1, logits, shift, WIDE), columns, k, others + size, COLUMNS, SPECIAL)
        first_column += BN
    if ADD:
        own, each = out + row_at + rows, size
    else:
        own, each = out + (row_at + part) * (2 * TILTS + 2) * n + rows, n
    _put(own, others_0, rows < n, ADD)
    if TILTS == 2:
        _put(own + each, others_1, rows < n, ADD)
    if SPECIAL or not ADD:  # else they are zeros
        _put(own + TILTS * each, inside_0, rows < n, ADD)
        if TILTS == 2:
            _put(own + 3 * each, inside_1, rows < n, ADD)
        _put(own + 2 * TILTS * each, sum_positive, rows < n, ADD)
        _put(own + (2 * TILTS + 1) * each, number, rows < n, ADD)
    if WIDE:
        tl.store(shifts + (row_at + part) * n + rows, shift, rows < n)


@triton.jit
def _slopes(
    logits, at, here, sums, lse, size, tilt_0, tilt_1, TILTS: tl.constexpr, WIDE: tl.constexpr, axis: tl.constexpr
):
    """[BM, BN] dL/dlogit of a tile through the sums `at` of its rows (axis 1) or columns (axis 0)."""
    slopes = _tilted(tilt_0, logits, lse + at, here, WIDE, axis) * tl.expand_dims(tl.load(sums + at, here), axis)
    if TILTS == 2:
        factor = tl.expand_dims(tl.load(sums + size + at, here), axis)
        slopes += _tilted(tilt_1, logits, lse + size + at, here, WIDE, axis) * factor
    return slopes


@triton.jit
def _tilted(tilt, logits, shifts, here, WIDE: tl.constexpr, axis: tl.constexpr):
    """exp(tilt * logits - shift)."""
    exponent = (tilt * LOG2_E) * logits
    if WIDE:
        exponent = exponent - tl.expand_dims(tl.load(shifts, here) * LOG2_E, axis)
    return tl.exp2(exponent)


@triton.jit
def _slopes_of_positives(slopes, at, here, positive, only, single, INSIDE: tl.constexpr, axis: tl.constexpr):
    """[BM, BN] whole dL/dlogit of positives; `slopes` is the part through the sums."""
    own = tl.expand_dims(tl.load(positive + at, here), axis) + tl.zeros_like(slopes)
    if INSIDE:
        is_single = tl.expand_dims(tl.load(single + at, here), axis) != 0
        own = tl.where(is_single, tl.expand_dims(tl.load(only + at, here), axis), own + slopes)
    return own


@triton.jit
def _both_slopes(
    logits, at, at_column, sums, size, tilt_0, tilt_1, TILTS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """`_slopes` of the rows and, where COLUMNS, the columns of a plain, narrow tile: one exponential serves both."""
    factor = tl.load(sums + at)[:, None]
    if COLUMNS:
        factor = factor + tl.load(sums + at_column)[None, :]
    whole = tl.exp2((tilt_0 * LOG2_E) * logits) * factor
    if TILTS == 2:
        factor = tl.load(sums + size + at)[:, None]
        if COLUMNS:
            factor = factor + tl.load(sums + size + at_column)[None, :]
        whole += tl.exp2((tilt_1 * LOG2_E) * logits) * factor
    return whole


@triton.jit
def _store(out, whole, rows, columns, n, k, stride, INNER: tl.constexpr):
    places = out + rows.to(tl.int64)[:, None] * stride + columns[None, :]
    if INNER:
        tl.store(places, whole.to(out.dtype.element_ty))
    else:
        tl.store(places, whole.to(out.dtype.element_ty), (rows < n)[:, None] & (columns < k)[None, :])


@triton.jit(do_not_specialize=["n", "k", "across", "size", "row_at", "column_at"])
def weights(
    x, y, x_row, x_id, y_row, y_id,
    marks,  # [row tiles, across]
    out,  # [n, stride]
    sums, lse, positive, only, single,  # of `Slopes`; rows of sums and lse are `size` long
    n, k, across, stride, size, row_at, column_at, tilt_0, tilt_1,
    SPECIAL: tl.constexpr, WIDTH: tl.constexpr, TILTS: tl.constexpr, WIDE: tl.constexpr, COLUMNS: tl.constexpr,
    SELF: tl.constexpr, INSIDE: tl.constexpr, EQUAL: tl.constexpr, OWN: tl.constexpr, PRECISION: tl.constexpr,
    SPAN: tl.constexpr, MM: tl.constexpr, MN: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Write dL/dlogit to `out`, in its dtype. Program (s, i) has the i-th rows and the s-th SPAN columns.

    A span is one plain tile, or several special ones. `Slopes` of the rows begin at row_at, and those of the columns,
    where COLUMNS, at column_at.
    """
    first_row, first_column = tl.program_id(1) * BM, tl.program_id(0) * SPAN
    rows = first_row + tl.arange(0, BM)
    of_marks = marks + (first_row // MM).to(tl.int64) * across
    if SPECIAL:
        stop = tl.minimum(first_column + SPAN, k)
        while first_column < stop:
            if tl.load(of_marks + first_column // MN) != 0:
                columns = first_column + tl.arange(0, BN)
                at, at_column = row_at + rows, column_at + columns
                logits = _product(x, y, rows, columns, n, k, WIDTH, PRECISION, BD, False)
                slopes = _slopes(logits, at, rows < n, sums, lse, size, tilt_0, tilt_1, TILTS, WIDE, 1)
                own = _slopes_of_positives(slopes, at, rows < n, positive, only, single, INSIDE, 1)
                if COLUMNS:
                    here = columns < k
                    more = _slopes(logits, at_column, here, sums, lse, size, tilt_0, tilt_1, TILTS, WIDE, 0)
                    own += _slopes_of_positives(more, at_column, here, positive, only, single, INSIDE, 0)
                    slopes += more
                is_positive, is_negative = _relate(x_row, x_id, y_row, y_id, rows, columns, n, k, SELF, EQUAL, OWN)
                whole = tl.where(is_positive, own, tl.where(is_negative, slopes, 0.0))
                _store(out, whole, rows, columns, n, k, stride, False)
            first_column += BN
    elif tl.load(of_marks + first_column // MN) == 0:
        columns = first_column + tl.arange(0, BN)
        at, at_column = row_at + rows, column_at + columns
        logits = _product(x, y, rows, columns, n, k, WIDTH, PRECISION, BD, True)
        if WIDE:
            slopes = _slopes(logits, at, None, sums, lse, size, tilt_0, tilt_1, TILTS, WIDE, 1)
            if COLUMNS:
                slopes += _slopes(logits, at_column, None, sums, lse, size, tilt_0, tilt_1, TILTS, WIDE, 0)
        else:
            slopes = _both_slopes(logits, at, at_column, sums, size, tilt_0, tilt_1, TILTS, COLUMNS)
        _store(out, slopes, rows, columns, n, k, stride, True)
