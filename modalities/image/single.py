"""Views of large pictures on a CPU, one at a time, as each fills the cache; its parameters are plain numbers.

A view takes about sixty short passes, so the overhead between them counts as much as their arithmetic: scratch planes
are allocated once, no parameter is a tensor, and values that cannot leave [0, 1] are not clamped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from multicl.modalities import seeded
from multicl.modalities.image import augment, resample
from multicl.modalities.image.augment import LUMA
from multicl.modalities.image.draws import NOISE, Draws

if TYPE_CHECKING:
    from multicl.modalities.image.presets import Augment

FADES = 0.999
"""Blends with at most this share of the picture stay below 1 despite rounding, as luma's weights sum to 0.9999."""
PLANES = 4
"""Number of scratch buffers [H, W]."""


def single_views(pixels: Tensor, draws: Draws, s: Augment, out: Tensor) -> Tensor:
    """As `views.random_view` of [B, 3, H, W] on a CPU, written to `out` [B, 3, h, w]."""
    numbers = (draws.box.int(), draws.rows["flip"], draws.factors, draws.order)
    each = zip(pixels, out, *(number.tolist() for number in numbers), strict=True)
    chosen = {name: rows.tolist() for name, rows in draws.rows.items()}
    planes = out.new_empty(PLANES, *out.shape[2:])
    others: dict[str, Callable[[Tensor, Draws], Tensor]] = {
        "blur": lambda x, own: resample.gaussian_blur(x, own.sigma),
        "solarize": lambda x, own: augment.solarize(x, s.solarize_threshold),
        "posterize": lambda x, own: augment.posterize(x, s.posterize_bits),
        "noise": lambda x, own: augment.add_noise(x, seeded.normal(own.seeds, tuple(x.shape[1:]), NOISE), s.noise_std),
        "cutout": lambda x, own: augment.cut_out(x, own.hole),
    }
    others = {name: change for name, change in others.items() if getattr(s, name)}
    for row, (picture, x, box, flip, factors, order) in enumerate(each):
        here = slice(row, row + 1)
        if draws.cut:
            resample.crop_one(picture, box, flip, x)
        else:
            x.copy_(resample.to_float(picture))
            if flip:
                x.copy_(x.flip(2))
        if chosen["rotate"][row]:
            x.copy_(resample.rotate(x[None], draws.angle[here])[0])
        if chosen["jitter"][row]:
            for what in order:
                ADJUST[what](x, factors[what], planes)
        if chosen["gray"][row]:
            x.copy_(augment.luma(x.unbind(), planes[0]))
        for name, change in others.items():
            if chosen[name][row] and (changed := change(x[None], draws[here])).data_ptr() != x.data_ptr():
                x.copy_(changed[0])
    return out


def brighten(x: Tensor, factor: float, planes: Tensor) -> None:
    """As `augment.adjust_brightness`, of one picture [3, H, W], in place."""
    x.mul_(factor)
    if factor > 1:
        x.clamp_(max=1)


def contrast(x: Tensor, factor: float, planes: Tensor) -> None:
    """As `augment.adjust_contrast`."""
    totals = x.flatten(1).sum(1).tolist()
    mean = sum(share * total for share, total in zip(LUMA, totals, strict=True)) / x[0].numel()
    _blend(x, factor, x.new_tensor((1 - factor) * mean))


def saturate(x: Tensor, factor: float, planes: Tensor) -> None:
    """As `augment.adjust_saturation`."""
    _blend(x, factor, augment.luma(x.unbind(), planes[0], 1 - factor))


def turn(x: Tensor, shift: float, planes: Tensor) -> None:
    """As `augment.adjust_hue`."""
    augment.turn_hue(x.unbind(), planes.unbind(), x.new_tensor(1 + shift))


ADJUST = (brighten, contrast, saturate, turn)
"""Indexed by BRIGHTNESS to HUE."""


def _blend(x: Tensor, keep: float, more: Tensor) -> None:
    torch.add(more, x, alpha=keep, out=x)
    if keep > FADES:
        x.clamp_(0, 1)
