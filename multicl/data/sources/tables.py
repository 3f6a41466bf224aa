"""Which local files a name stands for, and whether a table is empty or damaged."""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import islice
from pathlib import Path

from multicl.data.sources.folders import PACKED
from multicl.types import InputError

TABLES = {
    ".parquet": "parquet", ".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "csv",
    ".txt": "text", ".arrow": "arrow", ".tar": "webdataset",
}  # fmt: skip

BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")


def files_of(name: str, path: Path, url: bool) -> list[Path]:
    """The local files of a name; none for a folder, a URL or a hub name.

    Raises:
        InputError: the name looks like a path, but nothing is there.
    """
    wild = not url and ("*" in name or "?" in name)
    if not (url or path.exists()) and len(each := spelt_out(name)) > 1:
        return sorted({file for part in each for file in files_of(part, Path(part).expanduser(), url)})
    found = Path(path.anchor).glob(str(path.relative_to(path.anchor))) if wild else [path]
    files = sorted(filter(Path.is_file, found))
    # A hub name is "name" or "user/name"; anything else that does not exist is a missing path.
    inside = "/" in name and path.parts != () and Path(path.parts[0]).is_dir()
    is_path = name.startswith((".", "/", "~")) or name.endswith("/")
    looks_local = wild or inside or suffix_of(path) in TABLES or is_path or name.count("/") > 1
    if not name or (looks_local and not url and not files and not path.is_dir()):
        raise InputError(f"no such file or folder: {name or repr(name)}")
    return files


def spelt_out(name: str) -> list[str]:
    """A name with {00000..00003} or {a,b} in it -> the names that it stands for, as in shells and webdataset."""
    found = BRACES.search(name)
    if found is None:
        return [name]
    first, last, words = found.groups()
    span = range(int(first), int(last) + 1) if words is None else ()
    parts = [f"{number:0{len(first)}}" for number in span] if words is None else words.split(",")
    return [each for part in parts for each in spelt_out(name[: found.start()] + part + name[found.end() :])]


def suffix_of(path: Path) -> str:
    """The lower-case extension without that of compression: ".csv", also for "rows.csv.gz"."""
    suffixes = [s.lower() for s in path.suffixes if s.lower() not in PACKED]
    return suffixes[-1] if suffixes else ""


def is_empty(file: Path) -> bool:
    """Whether a local table has no rows; `datasets` raises a dozen different errors for that."""
    if file.stat().st_size == 0:
        return True
    if file.suffix.lower() in (".csv", ".tsv"):
        with file.open("rb") as lines:
            return sum(1 for line in islice(lines, 2) if line.strip()) < 2
    if file.suffix.lower() == ".parquet":
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import read_metadata

        with suppress(ArrowInvalid, OSError):  # `datasets` will report what is wrong
            return int(read_metadata(file).num_rows) == 0
    return False


def is_torn(file: Path) -> bool:
    """Whether a file is a table that `datasets` cannot read, in which case its error does not name the file."""
    if not file.is_file() or suffix_of(file) not in TABLES:
        return False
    if file.suffix.lower() == ".parquet":
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import read_metadata

        try:
            read_metadata(file)
        except (ArrowInvalid, OSError):
            return True
    return is_empty(file) if file.name == "metadata.csv" else file.stat().st_size == 0
