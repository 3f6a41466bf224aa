"""Logits walked a tile at a time, forward and backward, with torch's own products: memory grows with N * D, not N * N.

A tile's row sums serve one direction and its column sums the other; half of a symmetric matrix's tiles are walked.
Dimensions: N rows of a side; n queries and k keys of a block; T tilts; D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from multicl.ops.blocks import LOG2_E, Block, End, Walked, buffers, shaped
from multicl.ops.running import Running, Slopes

running: type[Running] = Running
"""The class that keeps the statistics."""


def forward(block: Block, running: Running) -> None:
    """Add a block's logits to the statistics of its queries and, where it has columns, of its keys."""
    if not (len(block.x) and len(block.y)):
        return
    block.find_few()
    tilts, shift = running.tilts, running.shift
    wide = shift is not None
    held, spare = buffers(block, several=wide or len(tilts) > 1)
    inner: Tensor | None = None
    base_2, others = _in_base_2(tilts, wide), running.others.unbind()
    small = block.is_small
    kept: list[Walked] = []
    for walked in block.walk(None if small else held, base_2, masks=True):
        tile, logits, positive, mask = walked
        ends = block.ends(tile)
        if tile.diagonal:
            del ends[1:]  # its rows serve both directions already
        if mask is not None:
            inner = torch.empty_like(held) if inner is None else inner
            _add_masked(running, ends, logits, mask, shaped(inner, *mask.shape), LOG2_E if base_2 else 1.0)
        if wide and not running.positives_in_sum:  # beside a large positive all others' sum would underflow
            if positive is not None:
                logits[positive.places] = -torch.inf
            elif mask is not None:
                logits.masked_fill_(mask, -torch.inf)
        for end in ends:
            if positive is not None:
                running.add_positives(positive.logits, end.of(positive.places))
            if wide:
                running.raise_to(logits.amax(1 - end.dim), end.at)
        for t, tilt in enumerate(tilts):
            for group in _groups(ends, wide):
                if base_2:
                    e = logits.exp2_()
                else:
                    e = _exponentials(logits, tilt, None if shift is None else tilt * group[0].along(shift), spare)
                if positive is not None:
                    inside = e[positive.places]
                    e[positive.places] = 0
                elif mask is not None:
                    assert inner is not None
                    part = torch.mul(e, mask, out=shaped(inner, *e.shape))
                    for end in group:
                        running.inside[t, end.at].add_(part.sum(1 - end.dim))
                    e = torch.sub(e, part, out=part)
                for end in group:
                    others[t][end.at].add_(e.sum(1 - end.dim))
                    if positive is not None:
                        running.inside[t].index_add_(0, end.of(positive.places), inside)
        if small:
            kept.append(walked)
    block.kept = kept


def reads(kind: torch.dtype) -> bool:
    """Whether rows of this dtype are read as they are, without a cast to float32: never."""
    return False


def queries(z: Tensor, scale: Tensor) -> Tensor:
    """[n, D] rows times the scale, as blocks hold them."""
    return z * scale


def keys(z: Tensor) -> Tensor:
    """[k, D] rows as blocks hold them."""
    return z


def backward(block: Block, slopes: Slopes, wants_y: bool = True) -> tuple[Tensor, Tensor]:
    """Slopes of the statistics -> gradients (dL/dx [n, D], dL/dy [k, D]) of the block's scaled queries and its keys.

    Of a symmetric block both are one tensor: the rows' gradient as queries and as keys, divided by the scale.
    """
    dx = torch.zeros_like(block.x)
    dy = dx if block.symmetric else torch.zeros_like(block.y)
    if not (len(block.x) and len(block.y)):
        return dx, dy
    x = block.y if block.symmetric else block.x
    tilts, lse = slopes.tilts, slopes.lse
    masks = not bool(slopes.single.any())  # a row's only positive has a slope of its own, which no mask gives
    if not masks and any(walked.mask is not None for walked in block.kept):
        block.kept = []
    several, kept = lse is not None or len(tilts) > 1, bool(block.kept)
    base_2, sums = _in_base_2(tilts, lse is not None), slopes.sums.unbind()
    held, spare = buffers(block, several or kept)
    whole = torch.empty_like(held) if several else spare
    both: Tensor | None = None
    for tile, logits, positive, mask in block.walk(held, base_2, masks=masks):
        ends = block.ends(tile)
        weights: Tensor | None = None
        for t, tilt in enumerate(tilts):
            for group in _groups(ends, lse is not None):
                out = whole if weights is None else spare
                e = logits
                if base_2 and not kept:
                    e = logits.exp2_()
                elif not base_2:
                    e = _exponentials(logits, tilt, None if lse is None else group[0].along(lse[t]), out)
                factor, *more = (end.along(sums[t]) for end in group)
                if more:  # in a buffer of its own: allocating it for each tile would cost page faults
                    both = torch.empty_like(held) if both is None else both
                    factor = torch.add(factor, more[0], out=shaped(both, *e.shape))
                e = torch.mul(e, factor, out=shaped(out, *e.shape))
                weights = e if weights is None else weights.add_(e)
        assert weights is not None
        if positive is not None:
            slope, *more = (slopes.of_positives(positive.logits, end.of(positive.places)) for end in ends)
            weights[positive.places] = slope + more[0] if more else slope
        elif mask is not None:
            slope, *more = (end.along(slopes.positive) for end in ends)
            if slopes.only is None:
                weights.masked_fill_(mask, 0)
            weights.addcmul_(mask.to(weights.dtype), slope + more[0] if more else slope)
        dx[tile.rows].addmm_(weights, block.y[tile.columns])
        if wants_y and not tile.diagonal:
            dy[tile.columns].addmm_(weights.T, x[tile.rows])
    return dx, dy


def _add_masked(running: Running, ends: list[End], logits: Tensor, mask: Tensor, room: Tensor, base: float) -> None:
    """Add sums and numbers of a tile's positives to the statistics; logits are natural ones times `base`."""
    own = torch.where(mask, logits, logits.new_zeros(()), out=room)
    for end in ends:
        running.positive[end.at].add_(own.sum(1 - end.dim), alpha=1 / base)
        running.count[end.at].add_(mask.sum(1 - end.dim))


def _groups(ends: list[End], wide: bool) -> list[list[End]]:
    """Groups of ends that share their exponentials; wide ends share none, as each has shifts of its own."""
    return [[end] for end in ends] if wide else [ends]


def _in_base_2(tilts: tuple[float, ...], wide: bool) -> bool:
    """Whether exponentials have neither tilt nor shift, so that logits in base 2 serve and exp2 is enough."""
    return tilts == (1.0,) and not wide


def _exponentials(logits: Tensor, tilt: float, shift: Tensor | None, out: Tensor) -> Tensor:
    """exp(tilt * logits - shift), written to `out`, which may hold the logits themselves; 0 for logits of -inf."""
    out = shaped(out, *logits.shape)
    if tilt == 0:
        torch.eq(logits, -torch.inf, out=out)  # 0 * -inf is NaN
        torch.mul(out.neg_(), 1e38, out=out)
    elif tilt == 1 and shift is not None:
        torch.sub(logits, shift, out=out)
        return out.exp_()
    elif tilt != 1 or out.data_ptr() != logits.data_ptr():
        torch.mul(logits, tilt, out=out)
    if shift is not None:
        out -= shift
    return out.exp_()
