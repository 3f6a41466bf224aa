"""A net for small pictures that trains on a CPU and keeps the positions of things."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multicl.types import InputError

WIDTH = 256


class Small(nn.Module):
    """Two halvings, a residual block, and a coarse grid instead of a global average: [B, C, h, w] -> [B, 256].

    By default, a square picture is pooled to 2 x 2 fields and a wide one to up to 2 x 6, so that left and right stay
    apart ("1 2 3" is not "3 2 1"). About 20 M multiplications for 32 x 32 pixels.

    Args:
        channels: C.
        size: h and w, each at least 4 times `fields`.
        fields: number of fields along the shorter side.

    Raises:
        InputError: a smaller picture.
    """

    def __init__(self, channels: int, size: tuple[int, int], fields: int = 2) -> None:
        super().__init__()
        if min(size) < 4 * fields:
            raise InputError(
                f"size={size}: the encoder 'small' takes pictures of at least {4 * fields} x {4 * fields} pixels, "
                f"as it has {fields} x {fields} fields"
            )
        height, across = size
        grid = _fields(fields, height / across), _fields(fields, across / height)
        self.trunk = nn.Sequential(*_step(channels, 32, 1), *_step(32, 64, 2), *_step(64, 128, 2))
        self.more = nn.Sequential(*_step(128, 128, 1))
        self.out = nn.Sequential(
            nn.AdaptiveAvgPool2d(grid), nn.Flatten(), nn.Linear(128 * grid[0] * grid[1], WIDTH), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, 256]."""
        x = x.contiguous(memory_format=torch.channels_last)  # convolutions are a third faster so
        x = self.trunk(x)  # [B, 128, ceil(h / 4), ceil(w / 4)]
        features: Tensor = self.out(x + self.more(x))
        return features


def _fields(least: int, elongation: float) -> int:
    return min(3 * least, max(least, round(least * elongation)))


def _step(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
