"""Size and encoder that suit given pictures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from multicl.modalities.image import decode
from multicl.types import BadSample, Suggestion

LOOKED_AT = 32
"""Number of pictures whose size is examined."""
SIZES = (32, 64, 96, 128, 224)
"""Pixels a side to choose from; without an accelerator, not the last."""


def suggest(cells: Sequence[Any], accelerator: bool, pretrained: bool) -> Suggestion:
    """The size closest to the pictures' own, and an encoder that the machine can train."""
    if pretrained:
        return Suggestion(
            {"encoder": "resnet18", "size": 224}, 0.2, "ResNet-18 from ImageNet, 224 pixels a side", pretrained=True
        )
    sides = []
    for cell in cells[:: max(1, len(cells) // LOOKED_AT)][:LOOKED_AT]:
        with suppress(BadSample):
            sides.append(min(decode.read(cell).size))
    side = int(statistics.median(sides)) if sides else SIZES[0]
    size = min(SIZES if accelerator else SIZES[:-1], key=lambda s: abs(s - side))
    settings: dict[str, Any] = {"encoder": "small", "size": size}
    if accelerator:
        settings |= {"encoder": "resnet18", "pretrained": False, "stem": "cifar" if size <= 64 else "default"}
    what = f"pictures of about {side} pixels a side are seen at {size}, by {settings['encoder']!r} from scratch"
    return Suggestion(settings, 0.5 if size <= 64 else 0.2, what)
