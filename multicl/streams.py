"""What is printed does no harm where it cannot be shown."""

from __future__ import annotations

import io
import sys


def print_anything() -> None:
    r"""From here on stdout prints what its encoding lacks as \u....: a file's name is no reason for a run to end.

    On Windows a pipe or a file has a code page of 256 letters. stderr is so by itself.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
