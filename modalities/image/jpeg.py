"""Plain JPEGs by torchvision's decoder: the same pixels as Pillow's, in half the time for pictures of 32 pixels.

Plain: three components of 8 bits, without Exif or XMP (which may rotate a picture) and without Adobe's marker (which
may name another colour space). Pillow decodes all others, and reports what is wrong with damaged files.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

_START = b"\xff\xd8\xff"
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive: these segments hold the size
_PASSED = {0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)} - {0xE1, 0xEE}  # tables, comments, applications' own


def plain_size(data: bytes | bytearray) -> tuple[int, int] | None:
    """(height, width) in the header of a plain JPEG; None: anything else."""
    if data[:3] != _START:
        return None
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind in _FRAMES:
            size = int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
            return size if data[at + 4] == 8 and data[at + 9] == 3 else None
        if kind not in _PASSED:
            return None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def decode(data: bytes | bytearray) -> Tensor | None:
    """A plain JPEG -> uint8 [3, h, w]; None if it is damaged."""
    try:
        pixels: Tensor = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)
    except RuntimeError:
        return None
    return pixels
