"""How CSV is read: spreadsheets in many countries write semicolons, and NA may be a word.

`datasets` reads a folder's metadata.csv in its own way, with commas only, and treats words such as NA as missing.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

EMPTY_ALONE = {"keep_default_na": False, "na_values": [""]}
"""Only empty cells of CSV are missing; by default pandas treats the texts NA, None, null, nan, ... as missing too."""
LOOKED_AT = 1 << 16
"""Bytes at a file's beginning that are examined."""
AT_ONCE = 10_000
"""Lines of metadata.csv that are read at once."""
OTHERS = (";", "\t", "|")
UNREADABLE = (EOFError, OSError, zlib.error, lzma.LZMAError)
"""What opening or reading a compressed file raises if it is cut short or not one."""
OPENERS: Mapping[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def separator(files: Sequence[Path]) -> str | None:
    """The separator of local .csv files (.csv.gz, .bz2, .xz), by the first; None: a comma, one column, or unknown.

    It is the first of comma and OTHERS that occurs equally often, at least once, in all rows examined.
    """
    start = _beginning(files)
    found = None if start is None else next((sep for sep in (",", *OTHERS) if _is_even(start, sep)), None)
    return None if found == "," else found


def _is_even(start: str, sep: str) -> bool:
    """Whether all rows of a table's beginning have equally many cells, two or more, with or without quoting."""
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        rows = [row for row in csv.reader(io.StringIO(start, newline=None), delimiter=sep, quoting=quoting) if row]
        if len(start) >= LOOKED_AT:
            del rows[-1]  # it may be cut short
        if len(rows) > 1 and {len(row) for row in rows} == {len(rows[0])} and len(rows[0]) > 1:
            return True
    return False


def quotes_are_letters(files: Sequence[Path], sep: str) -> bool:
    """Whether quotes in local files are plain characters of the texts, as in LJSpeech's and Common Voice's.

    If so, every line is a row with equally many cells, and parsing the quotes would break cells or merge rows.
    """
    if sep not in OTHERS:  # texts contain commas, so that counting them tells nothing
        return False
    try:
        return {_odd_quotes(file, file.stat().st_mtime_ns, sep) for file in files} - {None} == {True}
    except UNREADABLE:
        return False


@cache
def _odd_quotes(file: Path, changed: int, sep: str) -> bool | None:
    """`quotes_are_letters` of one file, None if it has no quotes; cached by mtime: a million lines take a second."""
    opened = OPENERS.get(file.suffix.lower(), _plain)
    with opened(file) as whole:
        if not any(b'"' in part for part in iter(partial(whole.read, 1 << 20), b"")):
            return None
    with opened(file) as lines:
        if len({line.count(sep.encode()) for line in lines if line.strip()}) != 1:
            return False
    with io.TextIOWrapper(opened(file), encoding="utf-8", errors="replace", newline="") as text:
        try:
            return len({len(row) for row in csv.reader(text, delimiter=sep, strict=True) if row}) != 1
        except csv.Error:
            return True


def is_spaced(files: Sequence[Path], sep: str) -> bool:
    """Whether the first line of local .csv files has a space after each separator, which is not part of the names."""
    names = (_beginning(files) or "").partition("\n")[0].split(sep)[1:]
    return bool(names) and all(name.startswith(" ") for name in names)


def _beginning(files: Sequence[Path]) -> str | None:
    """The beginning of the first of local .csv files, compressed or not; None: no such file, or it cannot be read."""
    if not files or not files[0].is_file():
        return None
    *_, end = ("", *(suffix.lower() for suffix in files[0].suffixes if suffix.lower() not in OPENERS))
    if end != ".csv":
        return None
    try:
        with OPENERS.get(files[0].suffix.lower(), _plain)(files[0]) as file:
            start: str = file.read(LOOKED_AT).decode("utf-8-sig", "replace")
    except UNREADABLE:  # cut short, or not compressed: `datasets` will report it
        return None
    return start


def captions(builder: Any) -> dict[str, Any]:
    """Options to rebuild the builder of a folder with a metadata.csv, so that `read_captions` can change how it reads.

    Args:
        builder: a builder of `datasets` over local files.

    Returns:
        Options that only change the name under which `datasets` caches the rows: under the usual name there may be
        rows that it read in its own way. Empty: there is no metadata.csv to read.
    """
    from datasets.packaged_modules.folder_based_builder.folder_based_builder import FolderBasedBuilder

    if not isinstance(builder, FolderBasedBuilder) or builder.config.metadata_filenames:
        return {}
    files = [Path(str(file)) for part in (builder.config.data_files or {}).values() for file in part]
    found = any(file.name == "metadata.csv" and file.is_file() for file in files)
    return {"metadata_filenames": builder.METADATA_FILENAMES} if found else {}


def read_captions(builder: Any) -> None:
    """Make a builder that has the options of `captions` read metadata.csv like any other CSV."""
    other = builder._read_metadata

    def read(file: str, metadata_ext: str = "") -> Iterator[Any]:
        if metadata_ext != ".csv":
            yield from other(file, metadata_ext)
            return
        import pandas
        import pyarrow

        sep = separator([Path(file)]) or ","
        quoting = csv.QUOTE_NONE if quotes_are_letters([Path(file)], sep) else csv.QUOTE_MINIMAL
        with pandas.read_csv(file, sep=sep, quoting=quoting, chunksize=AT_ONCE, **EMPTY_ALONE) as frames:
            yield from (pyarrow.Table.from_pandas(frame) for frame in frames if len(frame))

    builder._read_metadata = read


def _plain(file: Path) -> Any:
    return file.open("rb")
