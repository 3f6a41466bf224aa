"""Which library an image encoder comes from, by the form of its name. No library is imported."""

from __future__ import annotations

import os
from typing import Literal


def library_of(encoder: object) -> Literal["timm", "torchvision", "transformers"] | None:
    """The library that a name belongs to; None: "small", or a module of the user's own.

    "timm/NAME" is timm's; "hf/ORG/NAME" and folders, which have a separator, are transformers'; others torchvision's.
    """
    if not isinstance(encoder, str) or encoder == "small":
        return None
    if encoder.startswith("timm/"):
        return "timm"
    return "transformers" if "/" in encoder or os.sep in encoder else "torchvision"
