"""Makes printing safe for characters that the output's encoding lacks."""

from __future__ import annotations

import io
import sys


def print_anything() -> None:
    r"""Make stdout print characters that its encoding lacks as \u...., so that a file's name cannot end a run.

    On Windows, pipes and files use a code page of 256 characters. stderr does this by default.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
