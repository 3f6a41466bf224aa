"""Infers from the first lines of local CSV that it has no header, or that its file names lack their extension.

LJSpeech's metadata.csv is both: "LJ001-0001|Printing, in the only sense ..." stands for wavs/LJ001-0001.wav.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from multicl.data.cells import LONGEST
from multicl.data.sources.beside import LONG, ROWS, folders, holds_all, home_of, is_file_name
from multicl.data.sources.folders import is_picture, medium_ends
from multicl.data.sources.listed import are_lists, listed
from multicl.data.sources.places import places
from multicl.data.sources.separators import OTHERS, quotes_are_letters, separator
from multicl.data.sources.tables import is_empty
from multicl.data.sources.told import tell
from multicl.types import InputError


def told(files: Sequence[Path], how: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the CSV builder, inferred from the first of the local files; empty: none are needed.

    If the first line has a link, or the name of an existing image or sound, it is not a header, and columns are named
    "0", "1", ... If no cell is a file name, those of one column may lack an extension, which is appended. If files lie
    in several folders, or cells use Windows' separators, cells become paths. Printed lists of texts become lists.

    Args:
        how: the options with which pandas reads the files.
    """
    rows = _first(files[0], how) if files and how.get("header") == "infer" and how.get("names") is None else []
    if len(rows) < 2:
        return {}
    folder, (first, *others) = files[0].parent, rows
    changes: dict[str, Any] = {}
    mends = _mends(first, others, folder)
    if any(_is_link(cell) or (is_file_name(cell) and home_of([cell], folder)) for cell in first) or any(
        home_of([mend(first[at]) or ""], folder) for at, (mend, _) in mends.items()
    ):
        names = [str(number) for number in range(len(first))]
        changes = {"header": None, "names": names}
        tell(f"{files[0]}: the first line is a row, not a header; the columns are called {', '.join(names)}")
        first = names
    for at, (mend, line) in mends.items():
        changes.setdefault("converters", {})[first[at]] = mend
        tell(f"{files[0]}: column {first[at]!r} names files {line}")
    for name, cells in zip(first, zip(*others, strict=True), strict=True):
        if are_lists(cells):
            changes.setdefault("converters", {})[name] = listed
            tell(f"{files[0]}: column {name!r} holds lists of texts")
    return changes


def _mends(
    first: Sequence[str], rows: Sequence[Sequence[str]], folder: Path
) -> dict[int, tuple[Callable[[str], str | None], str]]:
    """Columns whose cells name files imprecisely -> the function that makes paths of cells, and a description."""
    columns = [*enumerate(map(list, zip(*rows, strict=True)))]
    if any(map(is_file_name, (*first, *rows[0]))):
        there = [(at, list(filter(None, cells))) for at, cells in columns]
        ended = [(at, cells, "") for at, cells in there if cells and all(map(is_file_name, cells))]
    else:
        ended = [(at, cells, end) for at, cells in columns if (end := _end_of(cells, folder))]
        ended = ended if len(ended) == 1 else []  # with two such columns, one may be labels
    found: dict[int, tuple[Callable[[str], str | None], str]] = {}
    for at, cells, end in ended:
        without = f"without their end, which is taken to be {end}" if end else ""
        if holds_all([cell + end for cell in cells], folder):
            if end:
                found[at] = partial(with_end, end), without
        elif holds_all([with_slashes(cell) or "" for cell in cells], folder):
            found[at] = with_slashes, "with \\ between folders, which is taken for /"
        elif paths := places(cells, folder, end):
            found[at] = partial(placed, paths), " ".join(filter(None, [without, "that lie in several folders"]))
    return found


def table_of(folder: Path) -> Path | None:
    """A folder's metadata.csv if it names files, but lacks the column file_name that `datasets` requires; else None."""
    file = folder / "metadata.csv"
    if not file.is_file() or is_empty(file):
        return None
    first, *others = first_rows(file) or [[]]
    if not others or any(name.endswith(("file_name", "file_names")) for name in first):
        return None
    columns = map(list, zip(*others, strict=True))
    named = any(all(map(is_file_name, cells)) and home_of(cells, folder) for cells in columns)
    return file if named or _mends(first, others, folder) else None


def first_rows(file: Path) -> list[list[str]]:
    """The cells of the first ROWS + 1 lines of a local CSV; empty: they cannot be read."""
    sep = "\t" if file.suffix.lower() == ".tsv" else separator([file]) or ","
    quoting = csv.QUOTE_NONE if quotes_are_letters([file], sep) else csv.QUOTE_MINIMAL
    return _first(file, {"sep": sep, "quoting": quoting})


def separator_of_files(file: Path) -> str | None:
    """The separator of a .txt that is a table with names of images or sounds, as Flickr8k's; None: its lines are texts.

    A space counts if all lines have equally many: "cat/1.jpg 0", or "cat_1 0", whose files lack their extension.
    """
    with file.open(encoding="utf-8", errors="replace") as lines:
        start = comments(file) + 1  # the first line may be a header
        others = [line.strip() for line in islice(lines, start, start + ROWS)]
    second, folder = others[0] if others else "", file.parent
    starts = {sep: second.partition(sep)[0] for sep in (",", *OTHERS) if sep in second}
    if found := next((sep for sep, name in starts.items() if is_file_name(name) and home_of([name], folder)), None):
        return found
    rows = [line.split(" ") for line in others if line]
    if len({*map(len, rows)}) != 1:
        return None
    columns = [*map(list, zip(*rows, strict=True))]
    ended = len(columns) > 1 and any(all(map(is_file_name, cells)) and holds_all(cells, folder) for cells in columns)
    return " " if ended or _end_of(columns[0], folder) else None


def comments(file: Path) -> int:
    """How many comment lines ("# ...") a .txt begins with, as the list of Oxford's pets does.

    0 if there is only one, which may be a header.
    """
    with file.open(encoding="utf-8", errors="replace") as lines:
        count = sum(1 for _ in takewhile(lambda line: line.startswith("#"), lines))
    return count if count > 1 else 0


def with_end(end: str, cell: str) -> str | None:
    """The cell with the extension appended; None if it is empty."""
    return cell + end if cell else None


def with_slashes(cell: str) -> str | None:
    """A Windows path with forward slashes; None if it is empty."""
    return cell.replace("\\", "/") or None


def placed(paths: Mapping[str, str], cell: str) -> str | None:
    """The cell's path; the cell itself if it is not in `paths`, None if it is empty."""
    return paths.get(cell, cell) or None


def _first(file: Path, how: Mapping[str, Any]) -> list[list[str]]:
    """The cells of the first ROWS + 1 lines; empty: they cannot be read."""
    import pandas

    plain = {"header": None, "dtype": str, "converters": None, "chunksize": None, "iterator": False, "nrows": 1 + ROWS}
    try:
        frame = pandas.read_csv(file, **{**how, **plain})
    except (OSError, EOFError, ValueError):  # reading all of it gives a better message
        return []
    rows: list[list[str]] = frame.fillna("").astype(str).to_numpy().tolist()
    return rows


def _is_link(cell: str) -> bool:
    return "://" in cell and len(cell.split()) == 1


def _end_of(names: Sequence[str], folder: Path) -> str:
    """The extension that makes files of all names; empty: there is none. Short names that repeat may be labels.

    Raises:
        InputError: two extensions of one kind fit, as when images and their masks have the same names.
    """
    if any(not name or "." in name or len(name.split()) > 1 or len(name) > LONGEST for name in names):
        return ""
    short = min(map(len, names)) < LONG
    if short and len({*names}) < len(names):
        return ""
    homes = [folder, *folders(folder), *([] if short else folders(folder.resolve().parent))]
    ends = (end for end in medium_ends() if all(any((h / f"{n}{end}").is_file() for h in homes) for n in names))
    end, *others = [*ends] or [""]
    if other := next((other for other in others if is_picture(end) == is_picture(other)), None):
        both = [file for home in homes for e in (end, other) if (file := home / f"{names[0]}{e}").is_file()]
        raise InputError(
            f"the table in {folder} names files without their ends, which may be {names[0]}{end} or {names[0]}{other}: "
            f"write the full names, or move the files that you do not mean elsewhere ({', '.join(map(str, both))})"
        )
    return end
