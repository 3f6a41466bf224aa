"""Printed lists of texts in CSV cells: '["one", "two"]' as JSON, "['one', 'two']" as Python."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence

_RUN_ON = re.compile(r"""['"]\s+['"]""")
"""What separates the texts of a printed numpy array; Python would concatenate them to one."""


def are_lists(cells: Sequence[str]) -> bool:
    """Whether all of these cells that are not empty are lists of texts, and at least one has a text."""
    found = [_read(cell) for cell in cells if cell]
    return any(found) and None not in found


def listed(cell: str) -> list[str] | None:
    """The texts of a cell: those of its list, or a cell that is not a list as the only one; None: there is none."""
    if not cell:
        return None
    found = _read(cell)
    return [cell] if found is None else found or None


def _read(cell: str) -> list[str] | None:
    if not (cell.startswith("[") and cell.endswith("]")):
        return None
    try:
        found = json.loads(cell)
    except ValueError:
        try:
            found = None if _RUN_ON.search(cell) else ast.literal_eval(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return found if isinstance(found, list) and all(isinstance(text, str) for text in found) else None
