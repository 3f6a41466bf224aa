"""Where a table's pictures and sounds are: beside it, or in a folder inside it, next to it (../audio/) or above it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from multicl.data.cells import LONGEST, resolve_path
from multicl.data.sources.folders import is_medium
from multicl.data.sources.told import tell

ROWS = 8
"""First rows whose paths are looked for."""
LONG = 8
"""Characters of a file's path, without its end, from which it is hardly of another set: 7.jpg may be anybody's."""


def folder_of_media(rows: Iterable[Mapping[str, Any]], folder: Path) -> Path:
    """The folder where relative paths in cells begin: that of `home_of`, or else the table's own."""
    names = sorted({name for row in islice(rows, ROWS) for name in row.values() if is_file_name(name)})
    return home_of(names, folder) or folder


def home_of(names: Sequence[str], folder: Path) -> Path | None:
    """The folder where the files named by a table in `folder` begin; logged if it is neither that folder nor inside it.

    Where none of them is beside the table, it is the one folder inside the table's that holds most of them, or else the
    one folder next to it that holds all, if their names are LONG. Names with a folder in them may begin at any folder
    above the table's, or where the program was started. None: there is none, or two.
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
    """Whether one folder is found that has every file which a table in `folder` names."""
    home = home_of(names, folder)
    return home is not None and _held(names, home) == len(names)


def _only(homes: list[Path]) -> Path | None:
    return homes[0] if len(homes) == 1 else None


def is_file_name(cell: Any) -> bool:
    """A relative path of what has the name of a picture or a sound."""
    if not isinstance(cell, str) or len(cell) > LONGEST or "\n" in cell or "://" in cell or not is_medium(cell):
        return False
    return not cell.startswith("~") and not Path(cell).is_absolute()


def _held(names: Iterable[str], folder: Path) -> int:
    return sum(Path(resolve_path(name, folder)).is_file() for name in names)


def folders(folder: Path) -> list[Path]:
    """Those inside one, but for hidden ones."""
    try:
        return sorted(home for home in folder.iterdir() if not home.name.startswith(".") and home.is_dir())
    except OSError:  # one that may not be looked into
        return []
