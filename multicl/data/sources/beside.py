"""Finds a table's images and sounds: beside it, in a folder inside its own, next to it (../audio/), or above it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from multicl.data.cells import LONGEST, resolve_path
from multicl.data.sources.folders import is_medium
from multicl.data.sources.told import tell

ROWS = 8
"""The first rows, whose paths are searched for."""
LONG = 8
"""Characters of a path without its extension from which it is unlikely to belong to another data set, as 7.jpg may."""


def folder_of_media(rows: Iterable[Mapping[str, Any]], folder: Path) -> Path:
    """The folder against which relative paths in cells are resolved: that of `home_of`, or else the table's own."""
    names = sorted({name for row in islice(rows, ROWS) for name in row.values() if is_file_name(name)})
    return home_of(names, folder) or folder


def home_of(names: Sequence[str], folder: Path) -> Path | None:
    """The folder to which the file names of a table in `folder` are relative; logged if it is not in that folder.

    If no file is beside the table, it is the one folder inside the table's that holds most of them; or else the one
    folder next to it that holds all, if their names are LONG. Names that contain a folder may also be relative to any
    folder above the table's, or to the working directory. None: no folder qualifies, or several do.
    """
    if not names or _held(names, folder):
        return folder if names else None
    inside = {home: _held(names, home) for home in folders(folder)}
    if any(inside.values()):
        return _only([home for home, held in inside.items() if held == max(inside.values())])
    own, beyond = folder.resolve(), None
    if min(len(str(Path(name).with_suffix(""))) for name in names) >= LONG:
        beyond = _only([home for home in folders(own.parent) if home != own and _held(names, home) == len(names)])
    if beyond is None and all(len(Path(name).parts) > 1 for name in names):
        above = (home for home in (*own.parents, Path.cwd()) if _held(names, home) == len(names))
        beyond = next(above, None)
    if beyond:
        tell(f"files that {folder} names ({names[0]} ...) are read from {beyond}", about=beyond)
    return beyond


def holds_all(names: Sequence[str], folder: Path) -> bool:
    """Whether the folder found by `home_of` has every one of the files."""
    home = home_of(names, folder)
    return home is not None and _held(names, home) == len(names)


def _only(homes: list[Path]) -> Path | None:
    return homes[0] if len(homes) == 1 else None


def is_file_name(cell: Any) -> bool:
    """Whether a cell is a relative path with the extension of an image or a sound."""
    if not isinstance(cell, str) or len(cell) > LONGEST or "\n" in cell or "://" in cell or not is_medium(cell):
        return False
    return not cell.startswith("~") and not Path(cell).is_absolute()


def _held(names: Iterable[str], folder: Path) -> int:
    return sum(Path(resolve_path(name, folder)).is_file() for name in names)


def folders(folder: Path) -> list[Path]:
    """The folders directly inside one, without hidden ones."""
    try:
        return sorted(home for home in folder.iterdir() if not home.name.startswith(".") and home.is_dir())
    except OSError:  # no permission to list it
        return []
