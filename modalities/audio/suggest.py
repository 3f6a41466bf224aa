"""Rate, length and encoder that suit given sounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from multicl.modalities.audio import decode
from multicl.types import BadSample, Suggestion

LOOKED_AT = 32
"""Number of sounds whose rate and length are examined."""
PRETRAINED = "laion/clap-htsat-unfused"
MOST_SECONDS = 10.0


def suggest(cells: Sequence[Any], accelerator: bool, pretrained: bool) -> Suggestion:
    """The sounds' lowest rate, up to 16 kHz (pretrained: 48 kHz), and a length that most fit into, up to 10 seconds.

    The reason says how many sounds are longer: evaluation hears only their beginning.
    """
    rates, seconds = [], []
    for cell in cells[:: max(1, len(cells) // LOOKED_AT)][:LOOKED_AT]:
        with suppress(BadSample):
            wave, rate = decode.read(cell, 60.0, None)
            rates.append(rate)
            seconds.append(len(wave) / rate)
    length = sorted(seconds)[int(0.95 * (len(seconds) - 1))] if seconds else MOST_SECONDS
    longest = min(MOST_SECONDS, max(1.0, float(math.ceil(length))))
    cut = sum(length > longest for length in seconds)
    longer = f"; {cut} of {len(seconds)} examined are longer: evaluation hears their beginning, or more with `windows`"
    more = longer if cut else ""
    if pretrained:
        settings = {"encoder": PRETRAINED, "rate": 48_000, "max_seconds": longest}
        return Suggestion(settings, 0.1, f"{PRETRAINED} of the hub{more}", pretrained=True)
    rate = min([16_000, *rates])
    why = f"sounds at {rate} Hz, up to {longest:g} s, a small convolutional net on log-mels from scratch{more}"
    return Suggestion({"encoder": "small", "rate": rate, "max_seconds": longest}, 0.1, why)
