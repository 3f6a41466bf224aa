"""Changes of pictures' colours, a batch at a time; each row has its own parameters.

Pictures are float [B, 3, H, W] in [0, 1] and stay so; parameters are [B]. The arithmetic is torchvision's
(`torchvision.transforms.v2.functional`), whose functions take one parameter for a whole batch. Every function changes
its pictures in place and returns them: passes in place are cheap while a slice stays in cache.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
"""The adjustments of `color_jitter`."""
MOST = 2**22
"""Maximum size of a thread's buffer, in numbers: 16 MB."""
LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in a grey picture (ITU-R 601-2)."""


def adjust_brightness(x: Tensor, factor: Tensor) -> Tensor:
    """0: black, 1: unchanged."""
    return blend(x, factor)


def adjust_contrast(x: Tensor, factor: Tensor) -> Tensor:
    """0: the mean of its grey picture, 1: unchanged."""
    return blend(x, factor, to_mean=1 - factor)


def adjust_saturation(x: Tensor, factor: Tensor) -> Tensor:
    """0: grey, 1: unchanged."""
    return blend(x, factor, to_grey=1 - factor)


def adjust_hue(x: Tensor, shift: Tensor) -> Tensor:
    """Turns the hue by `shift` of the colour circle, in [-0.5, 0.5]; HSV value and saturation stay."""
    turn_hue(x.unbind(1), planes(x, 4), (1 + shift.to(x.device, non_blocking=True))[:, None, None])
    return x


def turn_hue(rgb: Sequence[Tensor], spare: Sequence[Tensor], turned: Tensor) -> None:
    """Turns the hue of three planes [..., H, W], which are overwritten, plane by plane, as each fits in cache.

    There are no branches: 1 + (g + b - r - low) / chroma grows from 0 at red to 3 at cyan, through yellow or through
    magenta; with the sign of g - b it is the hue, in sixths of the circle. A channel is full within a sixth of its own
    hue, and gone beyond two.

    Args:
        spare: four scratch planes. turned: 1 + the shift, so that it is positive; broadcast over a plane.
    """
    red, green, blue = rgb
    low, chroma, hue, free = spare
    torch.minimum(torch.minimum(red, green, out=low), blue, out=low)
    torch.maximum(torch.maximum(red, green, out=chroma), blue, out=chroma).sub_(low)
    torch.add(green, blue, out=hue).sub_(red).sub_(low)
    hue.div_(torch.clamp_min(chroma, 1e-8, out=free)).add_(1)  # a grey pixel's is arbitrary
    hue.copysign_(torch.sub(green, blue, out=free))  # in sixths of a turn from red, [-3, 3]
    torch.add(turned, hue, alpha=1 / 6, out=hue).frac_()  # of the circle, [0, 1)
    for channel, middle in ((red, 1 / 2), (green, 1 / 3), (blue, 2 / 3)):  # cyan, where red is gone; green; blue
        torch.sub(hue, middle, out=channel).abs_().clamp_(1 / 6, 1 / 3)
    torch.addcmul(torch.sub(low, chroma, out=free), red, chroma, value=6, out=red)
    low.add_(chroma, alpha=2)
    for channel in (green, blue):
        torch.addcmul(low, channel, chroma, value=-6, out=channel)


def color_jitter(x: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Adjusts brightness, contrast, saturation and hue, each row in its own order, as SimCLR and torchvision do.

    All but the hue are blends, computed for all rows at once with coefficients for each row. Rows whose hue comes at
    the same turn are changed in place if they are adjacent.

    Args:
        factors: [B, 4] strengths, indexed by BRIGHTNESS to HUE; on the CPU.
        order: [B, T] int64, the adjustments of each row, first to last: T of the four, the same ones in every row; on
            the CPU.
    """
    turns = list(zip(*order.tolist(), strict=True))  # T of B
    if all(len(set(turn)) == 1 for turn in turns):  # one row, or the same order in all
        for what, *_ in turns:
            x = _ADJUST[what](x, factors[:, what])
        return x
    is_hue = order == HUE
    blends = order[~is_hue].view(len(x), -1)  # [B, T - 1], or T
    keep = factors.gather(1, blends)
    to_mean, to_grey = ((1 - keep) * (blends == what) for what in (CONTRAST, SATURATION))
    coefficients = torch.stack((keep, to_mean, to_grey)).to(x.device, non_blocking=True)
    for turn, done in enumerate(turns):
        if rows := [row for row, what in enumerate(done) if what == HUE]:
            change_rows(x, rows, adjust_hue, factors[:, HUE])
        if turn < blends.shape[1]:
            blend(x, *coefficients[:, :, turn])
    return x


def grey(x: Tensor) -> Tensor:
    """Luma [B, 1, H, W], in a buffer of `planes`."""
    (plane,) = planes(x, 1)
    return luma(x.unbind(1), plane)[:, None]


def luma(rgb: Sequence[Tensor], out: Tensor, factor: float = 1.0) -> Tensor:
    """Luma of three planes [..., H, W], times a factor, written to `out`."""
    red, green, blue = (factor * share for share in LUMA)
    return torch.mul(rgb[0], red, out=out).add_(rgb[1], alpha=green).add_(rgb[2], alpha=blue)


def to_grey(x: Tensor) -> Tensor:
    """Luma in all three channels."""
    return x.copy_(grey(x))


def solarize(x: Tensor, threshold: float) -> Tensor:
    """Inverts values of at least the threshold in [0, 1]."""
    return x.copy_(torch.where(x >= threshold, 1 - x, x))


def posterize(x: Tensor, bits: int) -> Tensor:
    """Quantises each channel to 2^bits levels."""
    levels = 2**bits
    return x.mul_(levels).floor_().clamp_(0, levels - 1).mul_(1 / levels)


def add_noise(x: Tensor, noise: Tensor, std: float) -> Tensor:
    """Adds std * noise [B, 3, H, W], clamped to [0, 1]."""
    return x.add_(noise, alpha=std).clamp_(0, 1)


def cut_out(x: Tensor, box: Tensor, value: float = 0.5) -> Tensor:
    """Fills a box of each picture; box: [B, 4] top, left, height, width in whole pixels."""
    top, left, height, width = box.to(x.device, non_blocking=True).t()[..., None]
    y, z = (torch.arange(n, device=x.device) for n in x.shape[2:])
    rows = (y >= top) & (y < top + height)  # [B, H]
    columns = (z >= left) & (z < left + width)
    return x.masked_fill_((rows[:, :, None] & columns[:, None])[:, None], value)


_KEPT = threading.local()


def planes(x: Tensor, count: int) -> tuple[Tensor, ...]:
    """Uninitialised scratch buffers [B, H, W]; the same thread's next call reuses them.

    Allocating and freeing memory for each pass would cost more than the pass.
    """
    shape = (count, len(x), *x.shape[2:])
    size = math.prod(shape)
    if x.device.type != "cpu" or size > MOST:
        return torch.empty(shape, dtype=x.dtype, device=x.device).unbind()
    kept = getattr(_KEPT, "buffer", None)
    if kept is None or kept.dtype != x.dtype or len(kept) < size:
        with torch.inference_mode(False):  # an inference tensor could not be written to outside that mode
            _KEPT.buffer = kept = torch.empty(size, dtype=x.dtype)
    return kept[:size].view(shape).unbind()


def blend(x: Tensor, keep: Tensor, to_mean: Tensor | None = None, to_grey: Tensor | None = None) -> Tensor:
    """keep * x + to_mean * mean(grey(x)) + to_grey * grey(x), clamped to [0, 1]."""
    if to_grey is not None:
        more = grey(x)
        mean = None if to_mean is None else more.mean((2, 3), keepdim=True) * _column(to_mean, x)
        more.mul_(_column(to_grey, x))
        if mean is not None:
            more.add_(mean)
    elif to_mean is not None:
        red, green, blue = x.mean((2, 3)).unbind(1)  # a product with LUMA would copy it to the device
        more = (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[:, None, None, None] * _column(to_mean, x)
    else:
        return x.mul_(_column(keep, x)).clamp_(max=1)
    return torch.addcmul(more, x, _column(keep, x), out=x).clamp_(0, 1)


def _column(strength: Tensor, like: Tensor) -> Tensor:
    return strength.to(like.device, non_blocking=True)[:, None, None, None]


_ADJUST = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)


def change_rows(x: Tensor, rows: list[int], change: Callable[..., Tensor], *parameters: Tensor) -> None:
    """Overwrites some rows, given in increasing order, with change(their pictures, *their parameters).

    Adjacent rows are changed in place; others are copied out and back. `parameters` cover all rows, on the CPU.
    """
    if rows[-1] - rows[0] == len(rows) - 1:
        some = slice(rows[0], rows[-1] + 1)
        own = x[some]
        changed = change(own, *(p[some] for p in parameters))
        if changed is not own:
            own.copy_(changed)
    else:
        here = torch.tensor(rows)
        there = here.to(x.device, non_blocking=True)
        x.index_copy_(0, there, change(x.index_select(0, there), *(p.index_select(0, here) for p in parameters)))
