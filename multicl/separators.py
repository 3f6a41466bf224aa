"""What separates the cells of a table that is called .csv: spreadsheets write semicolons in much of the world."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

LOOKED_AT = 1 << 16
"""Bytes of a file's beginning that are looked at."""
OTHERS = (";", "\t", "|")
OPENERS: Mapping[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def separator(files: Sequence[Path]) -> str | None:
    """The separator of local .csv files (.csv.gz, .bz2, .xz), by the first; None: a comma, one column, or not known.

    Without a comma in its first line, it is that of which all rows have equally many, and one or more.
    """
    if not files or not files[0].is_file():
        return None
    *_, end = ("", *(suffix.lower() for suffix in files[0].suffixes if suffix.lower() not in OPENERS))
    if end != ".csv":
        return None
    try:
        with OPENERS.get(files[0].suffix.lower(), _plain)(files[0]) as file:
            start = file.read(LOOKED_AT).decode("utf-8-sig", "replace")
    except (EOFError, OSError, zlib.error, lzma.LZMAError):  # cut short, or no archive: `datasets` says so
        return None
    if "," in start.partition("\n")[0]:
        return None
    for other in OTHERS:
        rows = [row for row in csv.reader(io.StringIO(start, newline=None), delimiter=other) if row]
        if len(start) >= LOOKED_AT:
            del rows[-1]  # of which there may be more
        if len(rows) > 1 and {len(row) for row in rows} == {len(rows[0])} and len(rows[0]) > 1:
            return other
    return None


def _plain(file: Path) -> Any:
    return file.open("rb")
