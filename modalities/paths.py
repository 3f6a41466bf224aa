"""Check of cells that should hold the path of a file."""

from __future__ import annotations

import os

from multicl.types import BadSample

LONGEST = 1024
"""Maximum length of a path, in characters."""


def refuse_long(raw: str | os.PathLike[str]) -> None:
    """Refuse a string that holds a file's content instead of its path.

    Raises:
        BadSample: it is too long for a path.
    """
    text = os.fspath(raw)
    if len(text) > LONGEST:
        raise BadSample(f"a text of {len(text)} characters is no path, {text[:40]!r} ...; decode base64 to bytes")
