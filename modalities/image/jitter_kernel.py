"""Colour jitter of small pictures in one Triton kernel, which keeps a picture in registers through all adjustments.

The same in torch, `dense.jittered`, takes two hundred passes over the batch.
"""
# mypy: ignore-errors
# Triton's language only looks like Python.

import triton
import triton.language as tl

from multicl.modalities.image import augment

CONTRAST, SATURATION, HUE = (tl.constexpr(what) for what in (augment.CONTRAST, augment.SATURATION, augment.HUE))
RED, GREEN, BLUE = (tl.constexpr(weight) for weight in augment.LUMA)


@triton.jit
def _grey(red, green, blue):
    return RED * red + GREEN * green + BLUE * blue


@triton.jit
def _turned(low, chroma, hue, own):
    """A channel after the turn; `own`: its own hue's place on the circle. See `augment.turn_hue`."""
    away = own + hue / 6
    away = tl.abs(away - tl.floor(away) - 0.5)
    return low + chroma * (2 - 6 * tl.minimum(tl.maximum(away, 1 / 6), 1 / 3))


@triton.jit
def _adjusted(red, green, blue, what, factor, here, size):
    """One adjustment of a picture; `here` masks its own pixels, `size` of them."""
    if what == HUE:
        low = tl.minimum(tl.minimum(red, green), blue)
        chroma = tl.maximum(tl.maximum(red, green), blue) - low
        hue = (green + blue - red - low) / tl.maximum(chroma, 1e-8) + 1
        hue = tl.where(green < blue, -hue, hue)
        red = _turned(low, chroma, hue, 1.5 + factor)
        green = _turned(low, chroma, hue, 1.5 - 1 / 3 + factor)
        blue = _turned(low, chroma, hue, 1.5 - 2 / 3 + factor)
    else:
        grey = _grey(red, green, blue)
        mean = tl.sum(tl.where(here, grey, 0.0), 0) / size
        more = (1 - factor) * tl.where(what == CONTRAST, mean, tl.where(what == SATURATION, grey, 0.0))
        red = tl.minimum(tl.maximum(factor * red + more, 0.0), 1.0)
        green = tl.minimum(tl.maximum(factor * green + more, 0.0), 1.0)
        blue = tl.minimum(tl.maximum(factor * blue + more, 0.0), 1.0)
    return red, green, blue


@triton.jit(do_not_specialize=["size"])
def jitter(
    x,  # [B, 3, size] float32, overwritten
    factors, order,  # [B, 4] float32, [B, TURNS] int64
    size, TURNS: tl.constexpr, ROOM: tl.constexpr,
):  # fmt: skip
    """`augment.color_jitter`, one picture a program; ROOM: a power of 2, at least `size`."""
    row = tl.program_id(0)
    pixel = tl.arange(0, ROOM)
    here = pixel < size
    at = x + row.to(tl.int64) * 3 * size + pixel
    red, green, blue = tl.load(at, here, 0.0), tl.load(at + size, here, 0.0), tl.load(at + 2 * size, here, 0.0)
    for turn in tl.static_range(TURNS):
        what = tl.load(order + row * TURNS + turn)
        factor = tl.load(factors + row * 4 + what)
        red, green, blue = _adjusted(red, green, blue, what, factor, here, size)
    tl.store(at, red, here)
    tl.store(at + size, green, here)
    tl.store(at + 2 * size, blue, here)
