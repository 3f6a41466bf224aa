"""What the first lines of local CSV tell: a row where columns' names should be, and names of files without their ends.

LJSpeech's metadata.csv has both: "LJ001-0001|Printing, in the only sense ...", of wavs/LJ001-0001.wav.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

from multicl.data.cells import LONGEST
from multicl.data.sources.beside import LONG, ROWS, folders, home_of, is_file_name
from multicl.data.sources.folders import medium_ends
from multicl.data.sources.separators import OTHERS

log = logging.getLogger(__name__)


def told(files: Sequence[Path], how: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the CSV builder for what the first of local files tells; empty: nothing.

    Where the first line has a link, or the name of a picture or sound that is there, it names no columns; these are
    called "0", "1", ... Where none of them names files, those of a column may lack their end, which all get.

    Args:
        how: what pandas reads them with.
    """
    rows = _first(files[0], how) if files and how.get("header") == "infer" and how.get("names") is None else []
    if len(rows) < 2:
        return {}
    folder, (first, *others) = files[0].parent, rows
    changes: dict[str, Any] = {}
    ended = any(map(is_file_name, (*first, *others[0])))
    column, end = (None, "") if ended else _without_end(others, folder)
    if any(_is_link(cell) or (is_file_name(cell) and home_of([cell], folder)) for cell in first) or (
        column is not None and home_of([first[column] + end], folder)
    ):
        names = [str(number) for number in range(len(first))]
        changes = {"header": None, "names": names}
        _tell(f"{files[0]}: the first line is a row and names no columns; they are called {', '.join(names)}")
        first = names
    if column is not None:
        changes["converters"] = {first[column]: partial(with_end, end)}
        _tell(f"{files[0]}: column {first[column]!r} names files without their end, which is taken to be {end}")
    return changes


def separator_of_files(file: Path) -> str | None:
    """What comes after the name of a picture or sound in a .txt that is a table, as Flickr8k's; None: it is texts."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        second = "".join(islice(lines, 1, 2)).strip()  # the first may name columns
    starts = {sep: second.partition(sep)[0] for sep in (",", *OTHERS) if sep in second}
    return next((sep for sep, name in starts.items() if is_file_name(name) and home_of([name], file.parent)), None)


@cache
def _tell(line: str) -> None:
    """Once: a table is opened several times."""
    log.warning(line)


def with_end(end: str, cell: str) -> str | None:
    """A file's whole name; None where there is none."""
    return cell + end if cell else None


def _first(file: Path, how: Mapping[str, Any]) -> list[list[str]]:
    """The first line, and some after it; empty: they cannot be read."""
    import pandas

    plain = {"header": None, "dtype": str, "converters": None, "chunksize": None, "iterator": False, "nrows": 1 + ROWS}
    try:
        frame = pandas.read_csv(file, **{**how, **plain})
    except (OSError, EOFError, ValueError):  # what is wrong, reading them says best
        return []
    rows: list[list[str]] = frame.fillna("").astype(str).to_numpy().tolist()
    return rows


def _is_link(cell: str) -> bool:
    return "://" in cell and len(cell.split()) == 1


def _without_end(rows: Sequence[Sequence[str]], folder: Path) -> tuple[int | None, str]:
    """The one column whose cells are names of files but for their end, and this; None: there is none, or two."""
    found = [(at, end) for at, cells in enumerate(zip(*rows, strict=True)) if (end := _end_of(cells, folder))]
    return found[0] if len(found) == 1 else (None, "")


def _end_of(names: Sequence[str], folder: Path) -> str:
    """What all names lack to be files of one folder; empty: they are none. Short ones may be labels if they repeat."""
    if any(not name or "." in name or len(name.split()) > 1 or len(name) > LONGEST for name in names):
        return ""
    short = min(map(len, names)) < LONG
    if short and len({*names}) < len(names):
        return ""
    homes = [folder, *folders(folder), *([] if short else folders(folder.resolve().parent))]
    for end in medium_ends():
        home = next((home for home in homes if (home / f"{names[0]}{end}").is_file()), None)
        if home is not None and all((home / f"{name}{end}").is_file() for name in names):
            return end
    return ""
