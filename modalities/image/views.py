"""One random view of a batch: `draws` draws each row's parameters, `resample` and `augment` apply them.

On a GPU they are applied by `dense`; to large pictures on a CPU by `single`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from multicl.modalities import seeded
from multicl.modalities.image import augment, resample
from multicl.modalities.image.dense import dense_view
from multicl.modalities.image.draws import NOISE, Draws, centred_boxes, crop_boxes, draw, filled
from multicl.modalities.image.recorded import replayed
from multicl.modalities.image.single import single_views

if TYPE_CHECKING:
    from multicl.modalities.image.presets import Augment

IN_CACHE = 2**19
"""Floats of a slice on a CPU: out of cache, the same work is several times slower; small slices add overhead."""
FEW = 4
"""Pictures that make a slice worthwhile; if fewer fit, each goes alone."""
MOST_RECORDED = 2**24
"""Largest view on a GPU, in floats, that is recorded: launches take most of its time. A recording keeps its memory.

Arithmetic takes most of the time of larger views: a change is computed only for its own rows, as on a CPU."""


def plain_view(pixels: Tensor, size: tuple[int, int], extent: Tensor | None = None) -> Tensor:
    """Every row without changes, [B, 3, h, w] float32 in [0, 1]: scaled to cover the size, its centre cut out.

    Args:
        pixels, size, extent: as in `random_view`.
    """
    height, width = pixels.shape[2:]
    if extent is None and (height, width) == size:
        return resample.to_float(pixels)
    flip = torch.zeros(len(pixels), dtype=torch.bool)
    if extent is None:
        extent = filled(flip, height, width)
    elif pixels.device.type != "cuda":  # a GPU would be synchronised with; others may lack float64
        extent = extent.cpu()
    out = torch.empty(len(pixels), 3, *size, device=pixels.device)
    with torch.autocast(pixels.device.type, enabled=False):
        return resample.resized_crop(pixels, centred_boxes(extent), flip, out)


def random_view(
    pixels: Tensor,
    seeds: Tensor,
    settings: Augment,
    size: tuple[int, int] | None = None,
    extent: Tensor | None = None,
) -> Tensor:
    """One view of every row.

    Args:
        pixels: [B, 3, H, W] uint8, or float in [0, 1].
        seeds: [B] int64; a row's view depends on its own seed and pixels alone.
        size: h and w to which crops are scaled; None: H and W.
        extent: [B, 3] float32: the part of H and of W that a row's picture fills, from the top left, in pixels, and its
            original width / height, relative to w / h; None: all fill H and W, and have the views' proportions.

    Returns:
        [B, 3, h, w] float32 in [0, 1], on the device of `pixels`.
    """
    height, width = pixels.shape[2:]
    size = size or (height, width)
    if pixels.device.type == "cuda" and 3 * len(pixels) * max(size[0] * size[1], height * width) <= MOST_RECORDED:
        with torch.autocast("cuda", enabled=False):  # pictures are float32, whatever the encoder runs in
            return replayed(dense_view, (pixels, seeds.to(pixels.device, non_blocking=True), extent), settings, size)
    there = extent if pixels.device.type == "cuda" else None  # reading it would synchronise with the GPU
    if extent is not None:
        extent = extent.cpu() if there is None else filled(torch.zeros(len(pixels)), height, width)
    draws = draw(seeds.cpu(), height, width, settings, size, extent)
    out = torch.empty(len(pixels), 3, *size, device=pixels.device)
    rows = IN_CACHE // (3 * size[0] * size[1]) if pixels.device.type == "cpu" else len(pixels)
    if rows < FEW and resample.one_by_one(pixels, out):
        with torch.autocast("cpu", enabled=False):
            return single_views(pixels, draws, settings, out)
    rows = max(rows, 1)
    order = draws.by_hue() if settings.jitter else None
    if order is not None:
        draws = draws[order]
        work = torch.empty_like(out[:rows])  # stays in cache, unlike `out`
    if there is not None:
        there = there if order is None else there[order.to(pixels.device, non_blocking=True)]
        draws = replace(draws, box=crop_boxes(draws.seeds.to(pixels.device, non_blocking=True), there, settings))
    chosen = {name: mask.tolist() for name, mask in draws.rows.items()}
    with torch.autocast(pixels.device.type, enabled=False):
        for start in range(0, len(pixels), rows):
            part = slice(start, start + rows)
            if order is None:
                _view(out[part], pixels[part], part, draws, chosen, settings)
            else:
                own = order[part].to(pixels.device, non_blocking=True)
                x = work[: len(own)]
                _view(x, pixels[own], part, draws, chosen, settings)  # in their own memory layout
                out.index_copy_(0, own, x)
    return out


def _view(x: Tensor, pixels: Tensor, part: slice, draws: Draws, chosen: dict[str, list[bool]], s: Augment) -> None:
    """Writes the views of a slice of the rows to x [b, 3, h, w]."""

    def change(name: str, function: Callable[..., Tensor], *parameters: Tensor) -> None:
        if rows := [row for row, on in enumerate(chosen[name][part]) if on]:
            augment.change_rows(x, rows, function, *(p[part] for p in parameters))

    def noisy(y: Tensor, seeds: Tensor) -> Tensor:
        return augment.add_noise(
            y, seeded.normal(seeds.to(y.device, non_blocking=True), tuple(y.shape[1:]), NOISE), s.noise_std
        )

    if draws.cut:
        resample.resized_crop(pixels, draws.box[part], draws.rows["flip"][part], x)
    else:
        x.copy_(resample.to_float(pixels))
        change("flip", lambda y: y.flip(3))
    change("rotate", resample.rotate, draws.angle)
    change("jitter", augment.color_jitter, draws.factors, draws.order)
    change("gray", augment.to_grey)
    change("blur", resample.gaussian_blur, draws.sigma)
    change("solarize", lambda y: augment.solarize(y, s.solarize_threshold))
    change("posterize", lambda y: augment.posterize(y, s.posterize_bits))
    change("noise", noisy, draws.seeds)
    change("cutout", augment.cut_out, draws.hole)
