"""Where a table's pictures and sounds are: beside it, or in a folder inside it or next to it (images/, ../audio/)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from multicl.data.cells import LONGEST, resolve_path
from multicl.data.sources.folders import is_medium

ROWS = 8
"""First rows whose paths are looked for."""


def folder_of_media(rows: Iterable[Mapping[str, Any]], folder: Path) -> Path:
    """The folder against which relative paths in cells are resolved.

    Where none of the first rows' files is beside the table, it is the one folder inside the table's, or next to it,
    that holds most of them. Where two hold as many, or none holds any, it is the table's own.
    """
    names = sorted({name for row in islice(rows, ROWS) for name in row.values() if _is_path(name)})
    if not names or _held(names, folder):
        return folder
    inside, own = _folders(folder), folder.resolve()
    held = {home: _held(names, home) for home in [*inside, *(home for home in _folders(own.parent) if home != own)]}
    most = max(held.values(), default=0)
    best = [home for home, count in held.items() if count == most]
    return best[0] if most and len(best) == 1 else folder


def _is_path(cell: Any) -> bool:
    """A relative path of what has the name of a picture or a sound."""
    if not isinstance(cell, str) or len(cell) > LONGEST or "\n" in cell or "://" in cell or not is_medium(cell):
        return False
    return not cell.startswith("~") and not Path(cell).is_absolute()


def _held(names: Iterable[str], folder: Path) -> int:
    return sum(Path(resolve_path(name, folder, "files")).is_file() for name in names)


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(home for home in folder.iterdir() if not home.name.startswith(".") and home.is_dir())
    except OSError:  # one that may not be looked into
        return []
