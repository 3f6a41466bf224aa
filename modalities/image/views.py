"""One random view of a batch: draws the parameters of each row and applies the changes of `augment`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from multicl.modalities import seeded
from multicl.modalities.image import augment as ops

if TYPE_CHECKING:
    from multicl.modalities.image.settings import Augment

IN_CACHE = 2**18
"""Floats of a slice on a CPU: beyond a core's cache the same work is several times slower."""
TRIES = 10
"""Boxes drawn for a crop before the whole picture is taken, as in torchvision."""

# Streams of draws: a change that is turned on or off, or a new one, leaves the draws of the others as they are.
_CROP, _FLIP, _ROTATE, _JITTER, _ORDER, _GREY, _BLUR, _SOLARIZE, _NOISE, _NOISE_ROWS = range(10)


def to_float(pixels: Tensor, copy: bool = False) -> Tensor:
    """uint8 -> float32 in [0, 1]; float32 as it is."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.to(torch.float32, copy=copy)


def random_view(pixels: Tensor, seeds: Tensor, settings: Augment, size: tuple[int, int] | None = None) -> Tensor:
    """One view of every row.

    Args:
        pixels: [B, 3, H, W] uint8, or float in [0, 1].
        seeds: [B] int64; a row's view depends on its own seed and pixels alone.
        size: h and w to which crops are scaled; None: H and W.

    Returns:
        [B, 3, h, w] float32 in [0, 1], on the device of `pixels`.
    """
    size = size or (pixels.shape[2], pixels.shape[3])
    seeds = seeds.to(pixels.device)
    rows = len(pixels) if pixels.device.type != "cpu" else max(1, IN_CACHE // max(1, pixels[0].numel()))
    with torch.autocast(pixels.device.type, enabled=False):  # pictures stay exact, whatever the encoder runs in
        parts = zip(pixels.split(rows), seeds.split(rows), strict=True)
        return torch.cat([_view(to_float(part, copy=True), own, settings, size) for part, own in parts])


def _view(x: Tensor, seeds: Tensor, s: Augment, size: tuple[int, int]) -> Tensor:
    x = _crop_and_flip(x, seeds, s, size)
    if s.rotate and s.rotate_degrees:
        draws = seeded.uniform(seeds, 2, _ROTATE)
        angle = _between(draws[:, 1], -s.rotate_degrees, s.rotate_degrees) * (math.pi / 180)
        x = _chosen(x, draws[:, 0] < s.rotate, ops.rotate, angle)
    x = _jitter(x, seeds, s)
    if s.gray:
        x = _chosen(x, seeded.uniform(seeds, 1, _GREY)[:, 0] < s.gray, ops.to_grey)
    if s.blur:
        draws = seeded.uniform(seeds, 2, _BLUR)
        radius = math.ceil(3 * s.blur_sigma[1])
        sigma = _between(draws[:, 1], *s.blur_sigma)
        x = _chosen(x, draws[:, 0] < s.blur, lambda y, own: ops.gaussian_blur(y, own, radius), sigma)
    if s.solarize:
        chosen = seeded.uniform(seeds, 1, _SOLARIZE)[:, 0] < s.solarize
        x = _chosen(x, chosen, ops.solarize, torch.full_like(chosen, s.solarize_threshold, dtype=x.dtype))
    if s.noise and s.noise_std:
        chosen = seeded.uniform(seeds, 1, _NOISE_ROWS)[:, 0] < s.noise
        shape = tuple(x.shape[1:])
        x = _chosen(x, chosen, lambda y, own: ops.add_noise(y, seeded.normal(own, shape, _NOISE), s.noise_std), seeds)
    return x


def _crop_and_flip(x: Tensor, seeds: Tensor, s: Augment, size: tuple[int, int]) -> Tensor:
    flip = seeded.uniform(seeds, 1, _FLIP)[:, 0] < s.flip
    if s.crop[0] < 1 or x.shape[2:] != size:
        height, width = x.shape[2:]
        box = random_boxes(seeds, height, width, s.crop, s.ratio)
        return ops.resized_crop(x, box, flip, size)
    return _chosen(x, flip, lambda y: y.flip(3)) if s.flip else x


def random_boxes(
    seeds: Tensor, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """[B, 4] float32 whole numbers: top, left, height, width, distributed as in torchvision's RandomResizedCrop.

    Args:
        scale: share of the area. ratio: width / height relative to that of the picture, log-uniform.
    """
    draws = seeded.uniform(seeds, 2 * TRIES + 2, _CROP)
    share = _between(draws[:, :TRIES], *scale)
    stretch = _between(draws[:, TRIES : 2 * TRIES], math.log(ratio[0]), math.log(ratio[1])).exp()
    h = (height * (share / stretch).sqrt()).round()  # [B, TRIES]
    w = (width * (share * stretch).sqrt()).round()
    fits = (h >= 1) & (h <= height) & (w >= 1) & (w <= width)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)
    h = torch.where(fits, h, height).gather(1, first)[:, 0]
    w = torch.where(fits, w, width).gather(1, first)[:, 0]
    top = (draws[:, -2] * (height - h + 1)).floor()
    left = (draws[:, -1] * (width - w + 1)).floor()
    return torch.stack((top, left, h, w), 1)


def _jitter(x: Tensor, seeds: Tensor, s: Augment) -> Tensor:
    strengths = (s.brightness, s.contrast, s.saturation, s.hue)
    if not s.jitter or not any(strengths):
        return x
    draws = seeded.uniform(seeds, 5, _JITTER)
    functions = (ops.adjust_brightness, ops.adjust_contrast, ops.adjust_saturation, ops.adjust_hue)
    used = [i for i, strength in enumerate(strengths) if strength]
    middle = (1.0, 1.0, 1.0, 0.0)
    lowest = (0.0, 0.0, 0.0, -0.5)
    factors = [
        _between(draws[:, i], max(lowest[i], middle[i] - strengths[i]), middle[i] + strengths[i]) for i in range(4)
    ]
    order = seeded.uniform(seeds, len(used), _ORDER).argsort(1)

    def jitter(y: Tensor, order: Tensor, *factors: Tensor) -> Tensor:
        return ops.color_jitter(y, [(functions[i], factors[i]) for i in used], order)

    return _chosen(x, draws[:, 4] < s.jitter, jitter, order, *factors)


def _chosen(x: Tensor, chosen: Tensor, change: Callable[..., Tensor], *parameters: Tensor) -> Tensor:
    """The change on the rows that are chosen; no work on the others. May write to x."""
    rows = chosen.nonzero()[:, 0]
    if len(rows) == len(x):
        return change(x, *parameters)
    if len(rows):
        x[rows] = change(x[rows], *(p[rows] for p in parameters))
    return x


def _between(draws: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * draws
