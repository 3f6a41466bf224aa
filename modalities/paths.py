"""A cell's text that ought to be the path of a file."""

from __future__ import annotations

import os

from multicl.types import BadSample

LONGEST = 1024
"""Characters of a text that may be a path."""


def refuse_long(raw: str | os.PathLike[str]) -> None:
    """Tell a file that stands in the text itself from the path of one.

    Raises:
        BadSample: it is too long for a path.
    """
    text = os.fspath(raw)
    if len(text) > LONGEST:
        raise BadSample(f"a text of {len(text)} characters, {text[:40]!r} ...; base64 must be decoded")
