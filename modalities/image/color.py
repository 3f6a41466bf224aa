"""An encoder's channels: RGB, or some of CIE Lab or YCbCr, normalised to about zero mean and unit deviation."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from multicl.modalities.image.settings import Channels

Stats = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel."""
IMAGENET: Stats = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet's RGB in [0, 1]."""
LAB: Stats = ((50.0, 6.025, -6.690), (50.0, 92.208, 101.168))
"""Centre and spread of L, a and b in CMC (arXiv:1906.05849)."""
YCBCR: Stats = ((0.475, 0.0, 0.0), (0.25, 0.07, 0.07))
"""Centre and spread of Y, Cb and Cr of everyday pictures."""
WHICH: dict[Channels, slice] = {
    "rgb": slice(0, 3), "L": slice(0, 1), "ab": slice(1, 3), "a": slice(1, 2), "b": slice(2, 3), "Y": slice(0, 1),
    "CbCr": slice(1, 3),
}  # fmt: skip
"""Channels -> their place in their colour space."""

_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)  # D65, 2 degrees


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """sRGB [B, 3, H, W] in [0, 1] -> CIE Lab under D65, L in [0, 100], a and b within about 110 of 0.

    The constants are those of scikit-image's `rgb2lab`, CMC's choice.
    """
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = torch.einsum("ij,bjhw->bihw", _to_xyz(rgb.dtype, rgb.device), linear)
    f = torch.where(xyz > 0.008856, xyz.clamp_min(0.008856) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f.unbind(1)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), 1)


@functools.lru_cache(maxsize=8)
def _to_xyz(dtype: torch.dtype, device: torch.device) -> Tensor:
    """[3, 3] from linear RGB to XYZ relative to white; cached, as a copy to a GPU synchronises with it."""
    with torch.inference_mode(False):  # training could not use an inference tensor
        matrix = torch.tensor(_TO_XYZ, dtype=dtype) / torch.tensor(_WHITE, dtype=dtype)[:, None]
        return matrix.to(device)


def rgb_to_ycbcr(rgb: Tensor) -> Tensor:
    """RGB [B, 3, H, W] in [0, 1] -> luma in [0, 1], Cb and Cr in [-0.5, 0.5], as JPEG (JFIF, ITU-R 601) has them."""
    red, green, blue = rgb.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.stack((luma, (blue - luma) / 1.772, (red - luma) / 1.402), 1)


def chosen(rgb: Tensor, channels: Channels) -> Tensor:
    """RGB [B, 3, H, W] in [0, 1] -> the channels [B, C, H, W]."""
    if channels == "rgb":
        return rgb
    space = rgb_to_ycbcr(rgb) if channels in ("Y", "CbCr") else rgb_to_lab(rgb)
    return space[:, WHICH[channels]]


def stats(channels: Channels, rgb: Stats) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the channels, [C, 1, 1] each; `rgb`: those of RGB."""
    space = rgb if channels == "rgb" else YCBCR if channels in ("Y", "CbCr") else LAB
    mean, std = (torch.tensor(values)[WHICH[channels]].view(-1, 1, 1) for values in space)
    return mean, std
