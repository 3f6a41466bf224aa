"""Encoder that suits given texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from multicl.types import Suggestion

PRETRAINED = "sentence-transformers/all-MiniLM-L6-v2"


def suggest(cells: Sequence[Any], accelerator: bool, pretrained: bool) -> Suggestion:
    """A bag of words; with an accelerator, a small transformer over bytes, long enough for most texts.

    With `pretrained`, a sentence encoder from the hub.
    """
    if pretrained:
        return Suggestion({"encoder": PRETRAINED}, 0.05, f"{PRETRAINED} from the hub", pretrained=True)
    if not accelerator:
        return Suggestion({"encoder": "words"}, 0.05, "a bag of words and their parts, from scratch")
    texts = (text for cell in cells for text in (cell if isinstance(cell, list) else [cell]))
    lengths = sorted(len(text) for text in texts if isinstance(text, str) and text)
    most = lengths[int(0.95 * (len(lengths) - 1))] if lengths else 0
    tokens = max(32, min(512, most + 2))
    return Suggestion({"encoder": "small", "max_tokens": tokens}, 0.05, f"a transformer over {tokens} bytes")
