"""Changes of pictures, batched, each row with parameters of its own.

Pictures are float [B, 3, H, W] in [0, 1] and stay so; parameters are [B]. The arithmetic is torchvision's
(`torchvision.transforms.v2.functional`), which takes one parameter for the whole batch. Inputs are not written to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

Adjustment = Callable[[Tensor, Tensor], Tensor]
"""(pictures [B, 3, H, W], strength [B]) -> pictures."""


def adjust_brightness(x: Tensor, factor: Tensor) -> Tensor:
    """0: black, 1: as it is."""
    return (x * _column(factor)).clamp_(0, 1)


def adjust_contrast(x: Tensor, factor: Tensor) -> Tensor:
    """0: the mean of its grey picture, 1: as it is."""
    mean = grey(x).mean((1, 2, 3), keepdim=True)
    return torch.lerp(mean, x, _column(factor)).clamp_(0, 1)


def adjust_saturation(x: Tensor, factor: Tensor) -> Tensor:
    """0: grey, 1: as it is."""
    return torch.lerp(grey(x), x, _column(factor)).clamp_(0, 1)


def adjust_hue(x: Tensor, shift: Tensor) -> Tensor:
    """Turns the hue by `shift` of the colour circle, in [-0.5, 0.5]; HSV value and saturation stay."""
    red, green, blue = x.unbind(1)  # [B, H, W]
    value = x.amax(1)
    chroma = value - x.amin(1)
    scale = chroma.clamp_min(1e-8).reciprocal()  # a grey pixel's hue is any: its chroma is 0 below
    of_green = (blue - red) * scale + 2
    of_blue = (red - green) * scale + 4
    sixths = torch.where(value == red, (green - blue) * scale, torch.where(value == green, of_green, of_blue))
    sixths += 6 * shift[:, None, None]
    turned = []
    for place in (5, 3, 1):  # HSV -> RGB without branches: v - c max(0, min(k, 4 - k, 1)), k = (place + 6 h) mod 6
        k = (sixths + place).remainder_(6)
        turned.append(value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1))
    return torch.stack(turned, 1)


def color_jitter(x: Tensor, adjustments: Sequence[tuple[Adjustment, Tensor]], order: Tensor) -> Tensor:
    """Applies n adjustments, each row in an order of its own, as SimCLR and torchvision's ColorJitter do.

    Args:
        adjustments: n functions with their strengths [B].
        order: [B, n] int64, a permutation of the adjustments in each row.
    """
    x = x.clone()
    each = torch.arange(len(adjustments), device=order.device)
    counts = (order[..., None] == each).sum(0).tolist()  # [n turns][n adjustments]: the one wait for the device
    for turn, sizes in enumerate(counts):
        rows_of = order[:, turn].argsort(stable=True).split(sizes)
        for (adjust, strength), rows in zip(adjustments, rows_of, strict=True):
            if len(rows):
                x[rows] = adjust(x[rows], strength[rows])
    return x


def grey(x: Tensor) -> Tensor:
    """Luma (ITU-R 601-2), [B, 1, H, W]."""
    return (x[:, :1] * 0.2989).add_(x[:, 1:2], alpha=0.587).add_(x[:, 2:], alpha=0.114)


def to_grey(x: Tensor) -> Tensor:
    """Luma in all three channels."""
    return grey(x).repeat(1, 3, 1, 1)


def solarize(x: Tensor, threshold: Tensor) -> Tensor:
    """Inverts what is at least as bright as the threshold in [0, 1]."""
    return torch.where(x >= _column(threshold), 1 - x, x)


def add_noise(x: Tensor, noise: Tensor, std: float) -> Tensor:
    """Adds std * noise [B, 3, H, W], cut to [0, 1]."""
    return torch.add(x, noise, alpha=std).clamp_(0, 1)


def gaussian_blur(x: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blurs with a Gaussian of `sigma` > 0 pixels, cut off `radius` pixels away; borders are mirrored.

    Separable, as one matrix product a side: kernels of a batch's many sigmas make slow grouped convolutions.
    """
    height, width = x.shape[-2:]
    rows, columns = (_blur_weights(sigma, min(radius, n - 1), n) for n in (height, width))
    return rows[:, None] @ x @ columns[:, None].mT


def resized_crop(x: Tensor, box: Tensor, flip: Tensor, size: tuple[int, int]) -> Tensor:
    """Cuts out boxes, mirrors those to `flip`, and scales to `size`: bilinear, antialiased where it shrinks.

    A box is a product of two intervals, so that all of it is one matrix product a side, exact for every row.

    Args:
        box: [B, 4] top, left, height, width in pixels, whole numbers within the picture.
        flip: [B] bool, left to right.
        size: height and width of what comes out.
    """
    top, left, height, width = box.unbind(1)
    rows = _resize_weights(top, height, x.shape[2], size[0])  # [B, h, H]
    columns = _resize_weights(left, width, x.shape[3], size[1])  # [B, w, W]
    columns = torch.where(flip[:, None, None], columns.flip(1), columns)
    return (rows[:, None] @ x @ columns[:, None].mT).clamp_(0, 1)


def rotate(x: Tensor, angle: Tensor) -> Tensor:
    """Turns about the centre, counter-clockwise, by `angle` in radians: bilinear, borders carried on outwards."""
    _, _, height, width = x.shape
    y, z = (torch.arange(n, device=x.device) - (n - 1) / 2 for n in (height, width))  # pixels from the centre
    y, z = y[:, None], z[None]
    cos, sin = (t[:, None, None] for t in (angle.cos(), angle.sin()))
    across = (cos * z - sin * y) * (2 / width)
    down = (sin * z + cos * y) * (2 / height)
    grid = torch.stack((across, down), -1)  # [B, H, W, 2]
    return grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _resize_weights(start: Tensor, length: Tensor, size: int, out: int) -> Tensor:
    """[B, out, size]: how much each source pixel counts, a triangle as wide as an output pixel, at least a source's."""
    scale = (length / out)[:, None]  # [B, 1]
    centre = start[:, None] + (torch.arange(out, device=start.device) + 0.5) * scale  # [B, out]
    source = torch.arange(size, device=start.device) + 0.5  # [size]
    weights = 1 - (source - centre[..., None]).abs() / scale.clamp_min(1)[..., None]
    inside = (source > start[:, None]) & (source < (start + length)[:, None])  # [B, size]
    weights = weights.clamp_min_(0) * inside[:, None]
    return weights / weights.sum(2, keepdim=True)


def _blur_weights(sigma: Tensor, radius: int, size: int) -> Tensor:
    """[B, size, size]: a Gaussian about each pixel, what falls beyond the border folded back (reflect)."""
    away = torch.arange(-radius, radius + 1, device=sigma.device)
    kernel = torch.softmax(-0.5 * (away / sigma[:, None]).square(), 1)  # [B, 2 radius + 1]
    tap = torch.arange(size, device=sigma.device)[:, None] + away  # [size, 2 radius + 1]
    tap = tap.abs()
    tap = (size - 1) - (size - 1 - tap).abs()
    weights = kernel.new_zeros(len(sigma), size, size)
    return weights.scatter_add_(2, tap.expand(len(sigma), -1, -1), kernel[:, None].expand(-1, size, -1))


def _column(strength: Tensor) -> Tensor:
    return strength[:, None, None, None]
