"""Integers of CSV beyond 2^53: beside empty cells pandas makes floats of them, which lack the last digits."""

from __future__ import annotations

import lzma
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from multicl.data.sources.separators import AT_ONCE, OPENERS

LOOKED_AT = 1 << 22
"""Bytes of a file's beginning in which a column of such integers has one, or it is not looked for: 4 ms a file."""
LONG = 16
"""Digits of 2^53."""
_DIGITS = re.compile(rb"\d{%d}" % LONG)
_WHOLE = r"[+-]?\d{1,18}"  # 19 digits may be more than 64 bits hold
_BIGGEST = r"[+-]?\d{19}"


def whole_columns(files: Sequence[Path], how: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the CSV builder by which such columns keep their digits; empty: no file has one.

    Args:
        files: local ones. how: what pandas reads them with.
    """
    try:
        if not any(map(_has_long, files)):
            return {}
        names, rows = _find(files, how)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):  # what is wrong, reading them says best
        return {}
    # all rows at once: a part in which every cell is empty would be of no type
    return {"converters": dict.fromkeys(names, whole), "chunksize": max(AT_ONCE, rows)} if names else {}


def whole(cell: str) -> Any:
    """A cell of CSV as a number; NA where it is empty, as pandas makes floats of integers beside None."""
    import pandas

    return int(cell) if cell.strip() else pandas.NA


def _has_long(file: Path) -> bool:
    opened: Callable[[Path], Any] = OPENERS.get(file.suffix.lower(), lambda path: path.open("rb"))
    with opened(file) as lines:
        return _DIGITS.search(lines.read(LOOKED_AT)) is not None


def _find(files: Sequence[Path], how: Mapping[str, Any]) -> tuple[list[str], int]:
    """Columns of integers of 64 bits, one of them long and one missing; and how many rows the longest file has."""
    import pandas

    integral, gaps, long = dict[str, bool](), set[str](), set[str]()
    most = 0
    for file in files:
        rows = 0
        with pandas.read_csv(file, **{**how, "converters": None, "dtype": str, "chunksize": AT_ONCE}) as frames:
            for frame in frames:
                rows += len(frame)
                for name in frame:
                    if integral.get(name, True):
                        cells = frame[name].dropna().str.strip()
                        big = cells[cells.str.fullmatch(_BIGGEST)]
                        fits = cells.str.fullmatch(_WHOLE).sum() + sum(-(2**63) <= int(n) < 2**63 for n in big)
                        integral[name] = fits == len(cells)
                        gaps |= {name} if len(cells) < len(frame) else set()
                        long |= {name} if (cells.str.len() >= LONG).any() else set()
        most = max(most, rows)
    return [name for name, fits in integral.items() if fits and name in gaps and name in long], most
