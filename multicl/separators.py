"""What separates the cells of a table that is called .csv: spreadsheets write semicolons in much of the world."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

LOOKED_AT = 1 << 16
"""Bytes of a file's beginning that are looked at."""
OTHERS = (";", "\t", "|")


def separator(files: Sequence[Path]) -> str | None:
    """The separator of local .csv files, by the first of them; None: a comma, or one column, or it cannot be told.

    Without a comma in its first line, it is that of which all rows have equally many, and one or more.
    """
    if not files or files[0].suffix.lower() != ".csv" or not files[0].is_file():
        return None
    with files[0].open("rb") as file:
        start = file.read(LOOKED_AT).decode("utf-8-sig", "replace")
    if "," in start.partition("\n")[0]:
        return None
    for other in OTHERS:
        rows = [row for row in csv.reader(io.StringIO(start, newline=None), delimiter=other) if row]
        if len(start) >= LOOKED_AT:
            del rows[-1]  # of which there may be more
        if len(rows) > 1 and {len(row) for row in rows} == {len(rows[0])} and len(rows[0]) > 1:
            return other
    return None
