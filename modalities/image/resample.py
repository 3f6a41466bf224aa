"""Changes that mix pixels, batched, with parameters for each row: crop, flip and scale in one, rotation, blur.

The method depends on size and device. Small pictures, and any on a GPU, are resampled by one matrix product a side for
the whole batch: exact for every row, as a box is a product of two intervals. On a CPU, enlarging is faster by looking
up four pixels for each. On a CPU, large pictures, for which the products would grow with the cube of their side, go one
by one, through torch's kernel for bytes and sums of shifted copies.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, pad

from multicl.modalities.image.presets import SMALL


def to_float(pixels: Tensor) -> Tensor:
    """uint8 -> float32 in [0, 1]; float32 as it is."""
    x = pixels.to(torch.float32, memory_format=torch.contiguous_format)
    return x.div_(255) if pixels.dtype == torch.uint8 else x


def resized_crop(pixels: Tensor, box: Tensor, flip: Tensor, out: Tensor) -> Tensor:
    """Cuts out boxes, mirrors those in `flip`, and scales to the size of `out`: bilinear, antialiased when shrinking.

    Args:
        pixels: [B, 3, H, W] uint8 or float in [0, 1]; large bytes on a CPU come out rounded to a level.
        box: [B, 4] top, left, height, width in pixels, whole numbers within the picture.
        flip: [B] bool, left to right.
        out: [B, 3, h, w] float32, filled with pictures in [0, 1], and returned.
    """
    if one_by_one(pixels, out):
        for picture, own, mirror, to in zip(pixels, box.int().tolist(), flip.tolist(), out, strict=True):
            crop_one(picture, own, mirror, to)
        return out
    if pixels.device.type == "cpu" and bool((box[:, 2:] <= torch.tensor(out.shape[2:])).all()):
        return _enlarged_crop(pixels, box, flip, out)
    top, left, height, width = box.to(pixels.device, non_blocking=True).unbind(1)
    flip = flip.to(pixels.device, non_blocking=True)[:, None]
    rows = _resize_weights(top, height, pixels.shape[2], out.shape[2], torch.zeros_like(flip))  # [B, h, H]
    columns = _resize_weights(left, width, pixels.shape[3], out.shape[3], flip)  # [B, w, W]
    if pixels.dtype == torch.uint8:
        columns.div_(255)
    across = pixels.float().flatten(1, 2).bmm(columns.mT)  # [B, 3 H, w]
    scaled = rows[:, None] @ across.view(len(pixels), 3, pixels.shape[2], -1)
    return torch.clamp(scaled, 0, 1, out=out)


def one_by_one(pixels: Tensor, out: Tensor) -> bool:
    """Whether crops are made one picture at a time: those of large pictures on a CPU."""
    return pixels.device.type == "cpu" and max(*pixels.shape[2:], *out.shape[2:]) > SMALL


def crop_one(picture: Tensor, box: list[int], flip: bool, out: Tensor) -> None:
    """`resized_crop` of one large picture [3, H, W] on a CPU, written to `out` [3, h, w]."""
    top, left, height, width = box
    cut = picture[None, :, top : top + height, left : left + width]
    cut = cut.contiguous(memory_format=torch.channels_last)  # in which torch's kernel for bytes is fastest
    size = (out.shape[1], out.shape[2])
    scaled = interpolate(cut, size=size, mode="bilinear", antialias=True)[0]
    scaled = scaled.flip(2) if flip else scaled
    if picture.dtype == torch.uint8:
        out.copy_(scaled.contiguous()).mul_(1 / 255)  # rearranging is faster as bytes
    else:
        torch.clamp(scaled, 0, 1, out=out)


def rotate(x: Tensor, angle: Tensor) -> Tensor:
    """Rotates about the centre, counter-clockwise, by `angle` in radians: bilinear, borders repeated outwards."""
    _, _, height, width = x.shape
    y, z = (torch.arange(n, device=x.device) - (n - 1) / 2 for n in (height, width))  # pixels from the centre
    y, z = y[:, None], z[None]
    cos, sin = (t.to(x.device, non_blocking=True)[:, None, None] for t in (angle.cos(), angle.sin()))
    across = (cos * z - sin * y) * (2 / width)
    down = (sin * z + cos * y) * (2 / height)
    grid = torch.stack((across, down), -1)  # [B, H, W, 2]
    turned = grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return turned.clamp_(max=1)  # weights add up to 1 but for rounding


def gaussian_blur(x: Tensor, sigma: Tensor, most: float | None = None) -> Tensor:
    """Blurs with a Gaussian of `sigma` > 0 pixels, cut off at 3 sigma (rounded up); borders are mirrored.

    Args:
        sigma: [B]. most: an upper bound; None: the maximum of `sigma`, which would synchronise with a GPU.
    """
    kernel = blur_kernel(sigma, most)  # [B, radius + 1]
    if x.device.type == "cpu" and max(x.shape[2:]) > SMALL:
        return torch.stack([_blur_one(one, own) for one, own in zip(x, kernel.tolist(), strict=True)]).clamp_(max=1)
    kernel = kernel.to(x.device, non_blocking=True)
    rows, columns = (_blur_weights(kernel, n) for n in x.shape[2:])
    across = x.flatten(1, 2).bmm(columns.mT)  # [B, 3 H, W]
    return (rows[:, None] @ across.view_as(x)).clamp_(max=1)


def blur_kernel(sigma: Tensor, most: float | None = None) -> Tensor:
    """[B, radius + 1] weights at distances of 0 to 3 sigma; counted on both sides, they sum to 1."""
    away = torch.arange(math.ceil(3 * (float(sigma.max()) if most is None else most)) + 1, device=sigma.device)
    weights = (-0.5 * (away / sigma[:, None]).square()).exp() * (away <= (3 * sigma).ceil()[:, None])
    return weights / (2 * weights.sum(1, keepdim=True) - 1)  # the middle one, exp(0), counts once


def _enlarged_crop(pixels: Tensor, box: Tensor, flip: Tensor, out: Tensor) -> Tensor:
    """`resized_crop` of boxes of which no side shrinks, so that no antialiasing is needed."""
    grid = torch.empty(len(pixels), *out.shape[2:], 2)
    for axis, mirror in ((0, torch.zeros_like(flip)), (1, flip)):
        start, length = box[:, axis, None], box[:, 2 + axis, None]
        size, to = pixels.shape[2 + axis], out.shape[2 + axis]
        place = torch.arange(0.5, to)
        place = torch.where(mirror[:, None], to - place, place)
        at = (start + place * (length / to)).clamp(start + 0.5, start + length - 0.5)  # within the box, [B, to]
        at = at * (2 / size) - 1  # as `grid_sample` counts: -1 and 1 are the picture's ends
        grid[..., 1 - axis] = at[:, :, None] if axis == 0 else at[:, None]
    levels = 255 if pixels.dtype == torch.uint8 else 1
    found = grid_sample(pixels.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return torch.clamp(found.div_(levels), 0, 1, out=out)


def _resize_weights(start: Tensor, length: Tensor, size: int, out: int, flip: Tensor) -> Tensor:
    """[B, out, size] weights of the source pixels: a triangle as wide as an output or a source pixel, if wider."""
    scale = (length / out)[:, None]  # [B, 1]
    place = torch.arange(out, device=start.device) + 0.5  # [out]
    centre = start[:, None] + torch.where(flip, out - place, place) * scale  # [B, out]
    source = torch.arange(size, device=start.device) + 0.5  # [size]
    inside = (source > start[:, None]) & (source < (start + length)[:, None])  # [B, size]
    reach = scale.clamp_min(1)
    weights = (source / reach)[:, None] - (centre / reach)[..., None]
    weights.abs_().neg_().add_(1).clamp_min_(0).mul_(inside[:, None])
    return weights.div_(weights.sum(2, keepdim=True))


def _blur_one(x: Tensor, kernel: list[float]) -> Tensor:
    """[3, H, W] blurred vertically, then horizontally, by adding copies shifted equally far to either side."""
    for side in (1, 2):
        size = x.shape[side]
        reach = sum(weight > 0 for weight in kernel) - 1
        wide = _mirrored(x, side, reach)
        x = wide.narrow(side, reach, size) * kernel[0]
        for away in range(1, reach + 1):
            x.add_(wide.narrow(side, reach - away, size), alpha=kernel[away])
            x.add_(wide.narrow(side, reach + away, size), alpha=kernel[away])
    return x


def _mirrored(x: Tensor, side: int, reach: int) -> Tensor:
    """[3, H, W] with `reach` more pixels at both ends of a side: the picture mirrored, repeatedly if need be."""
    if x.shape[side] == 1:
        return x.repeat_interleave(2 * reach + 1, side)
    while reach:
        more = min(reach, x.shape[side] - 1)
        x = pad(x[None], (0, 0, more, more) if side == 1 else (more, more, 0, 0), mode="reflect")[0]
        reach -= more
    return x


def _blur_weights(kernel: Tensor, size: int) -> Tensor:
    """[B, size, size] a Gaussian around each pixel; weights beyond the border are folded back (reflect)."""
    away = torch.arange(1 - kernel.shape[1], kernel.shape[1], device=kernel.device)
    tap = torch.arange(size, device=kernel.device)[:, None] + away  # [size, 2 radius + 1]
    period = max(1, 2 * (size - 1))
    tap = (size - 1) - (tap % period - (size - 1)).abs()  # mirrored, repeatedly if need be
    weights = kernel.new_zeros(len(kernel), size, size)
    return weights.scatter_add_(2, tap.expand(len(kernel), -1, -1), kernel[:, None, away.abs()].expand(-1, size, -1))
