"""Commands on each of several ranks."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

from multicl import cli


def printed(commands: Sequence[Sequence[str]]) -> str:
    """This rank's standard output of these commands, run one after another."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        for words in commands:
            cli.main(list(words))
    return out.getvalue()
