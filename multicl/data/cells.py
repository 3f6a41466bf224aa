"""What a cell is: null, a file, the path of one beside its table."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

LONGEST = 1024
"""Characters of a string that may be a path; longer ones are data that somebody wrote as text."""


def is_null(cell: Any) -> bool:
    """None, or the NaN that tables put for it."""
    return cell is None or (isinstance(cell, float | np.floating) and math.isnan(cell))


def file_of(cell: Any, files: bool) -> str | None:
    """The file that a cell is, where it says; `files`: strings are paths."""
    path = cell.get("path") if isinstance(cell, Mapping) else cell if files else None
    name = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
    return name if 0 < len(name) <= LONGEST else None


def blamed(cell: Any, files: bool, reason: str) -> str:
    """Why a cell cannot be used, after the file that it is: people know their files, not rows' numbers.

    Args:
        files: as `file_of`. reason: what was wrong with it.
    """
    name = file_of(cell, files)
    return reason if name is None or name in reason or repr(name) in reason else f"{name}: {reason}"


def resolve_path(cell: Any, base: Path | None) -> Any:
    """A path in a cell (or in each of a list), also "~/..." and "file://...", as it is found from here.

    Args:
        base: the folder where relative paths begin; None: the cell is returned as it is.
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
    """str(base / path), in a tenth of the time where there is nothing to simplify: a table may have a million paths."""
    if os.sep == "/" and path.startswith("/"):
        return path
    parts = path.split("/")
    if os.sep == "/" and len(base.parts) > 1 and "" not in parts and "." not in parts:
        return f"{base}/{path}"
    return path if Path(path).is_absolute() else str(base / path)
