"""What a cell is: null, a file, or a path relative to its table."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

LONGEST = 1024
"""Characters of a string that may be a path; longer strings are data stored as text."""


def is_null(cell: Any) -> bool:
    """Whether a cell is None, or the NaN that tables use instead."""
    return cell is None or (isinstance(cell, float | np.floating) and math.isnan(cell))


def file_of(cell: Any, files: bool) -> str | None:
    """The name of the file that a cell stands for, or None; `files`: strings are paths."""
    path = cell.get("path") if isinstance(cell, Mapping) else cell if files else None
    name = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
    return name if 0 < len(name) <= LONGEST else None


def blamed(cell: Any, files: bool, reason: str) -> str:
    """The reason why a cell cannot be used, prefixed with its file if it has one: users know files, not row numbers.

    Args:
        files: as `file_of`. reason: what was wrong with it.
    """
    name = file_of(cell, files)
    return reason if name is None or name in reason or repr(name) in reason else f"{name}: {reason}"


def resolve_path(cell: Any, base: Path | None) -> Any:
    """The cell with its path, or those of a list, resolved against a folder; "~/..." and "file://..." work too.

    Args:
        base: the folder of relative paths; None: the cell is returned unchanged.
    """
    if base is None:
        return cell
    if isinstance(cell, list):
        first = next((part for part in cell if part is not None), None)
        return [resolve_path(part, base) for part in cell] if isinstance(first, str | dict) else cell
    if isinstance(cell, str):
        if cell.startswith("~/"):
            return str(Path(cell).expanduser())
        cell = unquote(cell.removeprefix("file://")) if cell.startswith("file://") else cell
        return cell if not cell or "://" in cell else _beside(base, cell)
    if isinstance(cell, dict) and cell.get("bytes") is None and isinstance(cell.get("path"), str):
        return {**cell, "path": resolve_path(cell["path"], base)}
    return cell


def _beside(base: Path, path: str) -> str:
    """str(base / path), in a tenth of the time for paths already in normal form: a table may have a million."""
    if os.sep == "/" and path.startswith("/"):
        return path
    parts = path.split("/")
    if os.sep == "/" and len(base.parts) > 1 and "" not in parts and "." not in parts:
        return f"{base}/{path}"
    return path if Path(path).is_absolute() else str(base / path)
