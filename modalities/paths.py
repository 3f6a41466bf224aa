"""Cells that should be the path of a file."""

from __future__ import annotations

import os

from multicl.types import BadSample

LONGEST = 1024
"""Most characters of a path."""


def refuse_long(raw: str | os.PathLike[str]) -> None:
    """Refuse a text that holds a file's content in place of its path.

    Raises:
        BadSample: it is too long for a path.
    """
    text = os.fspath(raw)
    if len(text) > LONGEST:
        raise BadSample(f"a text of {len(text)} characters, {text[:40]!r} ...; base64 must be decoded")
