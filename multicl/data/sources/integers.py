"""Integers beyond 2^53 in CSV: in a column with empty cells, pandas reads them as floats and loses the last digits."""

from __future__ import annotations

import lzma
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from multicl.data.sources.separators import AT_ONCE, OPENERS

LOOKED_AT = 1 << 22
"""Bytes at a file's beginning that are searched for such an integer (4 ms per file); without one, it is skipped."""
LONG = 16
"""Decimal digits of 2^53."""
_DIGITS = re.compile(rb"\d{%d}" % LONG)
_WHOLE = r"[+-]?\d{1,18}"  # 19 digits may exceed 64 bits
_BIGGEST = r"[+-]?\d{19}"


def whole_columns(files: Sequence[Path], how: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the CSV builder that keep all digits of such columns; empty: no file has one.

    Args:
        files: local files. how: the options with which pandas reads them.
    """
    try:
        if not any(map(_has_long, files)):
            return {}
        names, rows = _find(files, how)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):  # reading all of it gives a better message
        return {}
    # all rows in one chunk: a chunk in which every cell is empty would have no type
    return {"converters": dict.fromkeys(names, whole), "chunksize": max(AT_ONCE, rows)} if names else {}


def whole(cell: str) -> Any:
    """A CSV cell as an integer; NA if it is empty, since pandas turns integers beside None into floats."""
    import pandas

    return int(cell) if cell.strip() else pandas.NA


def _has_long(file: Path) -> bool:
    opened: Callable[[Path], Any] = OPENERS.get(file.suffix.lower(), lambda path: path.open("rb"))
    with opened(file) as lines:
        return _DIGITS.search(lines.read(LOOKED_AT)) is not None


def _find(files: Sequence[Path], how: Mapping[str, Any]) -> tuple[list[str], int]:
    """Columns of 64-bit integers that have a long and a missing one; and the number of rows of the longest file."""
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
