"""What an encoder looks at: colour, or the lightness or the colour of CIE Lab, at zero mean and unit deviation."""

from __future__ import annotations

import torch
from torch import Tensor

Stats = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel."""
IMAGENET: Stats = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet's RGB in [0, 1]."""
LAB: Stats = ((50.0, 6.025, -6.690), (50.0, 92.208, 101.168))
"""Centre and spread of L, a and b in CMC (arXiv:1906.05849)."""

_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)  # D65, 2 degrees


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """sRGB [B, 3, H, W] in [0, 1] -> CIE Lab under D65, L in [0, 100], a and b within about 110 of 0.

    The constants are those of scikit-image's `rgb2lab`, CMC's choice.
    """
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    to_xyz = rgb.new_tensor(_TO_XYZ) / rgb.new_tensor(_WHITE)[:, None]
    xyz = torch.einsum("ij,bjhw->bihw", to_xyz, linear)  # relative to white
    f = torch.where(xyz > 0.008856, xyz.clamp_min(0.008856) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f.unbind(1)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), 1)
