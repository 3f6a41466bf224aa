"""Lists of texts that CSV holds as they are printed: '["one", "two"]' of JSON, "['one', 'two']" of Python."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence

_RUN_ON = re.compile(r"""['"]\s+['"]""")
"""Between the texts of a printed numpy array, which for Python are one."""


def are_lists(cells: Sequence[str]) -> bool:
    """Whether some cells of a column, but for empty ones, are all lists of texts."""
    found = [_read(cell) for cell in cells if cell]
    return any(found) and None not in found


def listed(cell: str) -> list[str] | None:
    """The texts of a cell; what is no list is its only one, None where there is none."""
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
