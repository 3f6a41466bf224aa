"""JSON that is one object with rows in it: {"data": [...]}, {"train": [...], "test": [...]}, or a table's columns.

Such a file is rewritten as JSON lines, in which `datasets` keeps all digits of integers beside nulls.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeGuard

from multicl.data.sources.separators import OPENERS
from multicl.data.sources.tables import suffix_of
from multicl.files import writing
from multicl.types import InputError

PEEK = 1024
"""Characters within which an object must begin."""
COLUMNS = ""
"""The key that stands for an object that is a table of columns: {"text": [...], "image": [...]}."""
CAPTIONED = "train"
"""The key that stands for images joined with their captions, which COCO keeps in two lists."""


def lists_in(file: Path) -> list[str]:
    """The keys of a local .json (.json.gz, .bz2, .xz) whose values are lists of objects; or COLUMNS for a table.

    CAPTIONED comes first if they are COCO's "images" and "annotations" with captions.

    A table is an object of equally long lists (2 items or more, not all lists of objects), or what pandas writes:
    {"text": {"0": "a", "1": "b"}, "image": {"0": ..., "1": ...}}. Empty: the file is something else.

    Raises:
        InputError: the object holds only lists, of different lengths.
    """
    if suffix_of(file) != ".json":
        return []
    try:
        found = _only_object(file)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):  # `datasets` says what is wrong
        return []
    keys = [COLUMNS] if _columns(found, file) else [key for key, rows in found.items() if _are_rows(rows)]
    return [CAPTIONED, *keys] if CAPTIONED not in keys and _captioned(found) else keys


def chosen(keys: Sequence[str], split: str, name: str) -> str | None:
    """The key of the list that is a split: the one of its name, or for "train" the only one; None: neither.

    Args:
        keys: the keys of a file's lists. split: with or without a slice. name: the file's name, for messages.

    Raises:
        InputError: there are several lists, none of that name.
    """
    wanted = split.partition("[")[0]
    if wanted in keys:
        return wanted
    if len(keys) > 1:
        raise InputError(
            f"{name} is one object with several lists of rows, and none is called {wanted!r}: name one of {keys} as "
            f"the split (--data.split {keys[0]}), or parts of one (--data.test '{keys[0]}[90%:]')"
        )
    return keys[0] if keys and wanted == "train" else None


def only_lists(splits: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Builder options for a folder in which each split is one local file with one list, under the same key; else empty.

    If a split has several files, each file is a row, whatever lists it holds.
    """
    files = {split: Path(str(part[0])) for split, part in splits.items() if len(part) == 1}
    found = {tuple(lists_in(file)) for file in files.values()} if len(files) == len(splits) else set()
    keys = found.pop() if len(found) == 1 else ()
    return lines_of(files, keys[0]) if len(keys) == 1 else {}


def lines_of(files: Mapping[str, Path], key: str) -> dict[str, Any]:
    """Builder options for the rows under a key, rewritten as JSON lines in the cache of `datasets`.

    Args:
        files: split -> its file. key: one of `lists_in`.
    """
    lines = {split: _as_lines(file, key) for split, file in files.items()}
    most = max(file.stat().st_size for file in lines.values())
    # all rows in one chunk: a new key, or a fraction among integers, in a later chunk would not fit the first's schema
    return {"data_files": {split: str(file) for split, file in lines.items()}, "chunksize": max(10 << 20, most + 1)}


def _as_lines(file: Path, key: str) -> Path:
    import datasets

    about = file.stat()
    known = json.dumps([str(file.resolve()), about.st_size, about.st_mtime_ns, key])
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "multicl-json"
    lines = folder / f"{hashlib.blake2b(known.encode(), digest_size=16).hexdigest()}.jsonl"
    if not lines.exists():
        found = _only_object(file)
        rows = found[key] if key in found else _columns(found, file) or _captioned(found)
        with writing(folder, "or give HF_DATASETS_CACHE another place"):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as own:  # other processes may write the same file
                beside = Path(own, lines.name)
                with beside.open("w", encoding="utf-8") as out:
                    out.writelines(json.dumps(row) + "\n" for row in rows)
                beside.replace(lines)
    return lines


def _only_object(file: Path) -> dict[str, Any]:
    """The single object that a file holds; empty: it is JSON lines, or not an object.

    Raises:
        OSError, EOFError, zlib.error, lzma.LZMAError: it cannot be read or unpacked. ValueError: it is not JSON.
    """
    with OPENERS.get(file.suffix.lower(), open)(file, "rt", encoding="utf-8-sig") as lines:
        return _read(lines)


def _read(lines: IO[str]) -> dict[str, Any]:
    if not lines.read(PEEK).lstrip().startswith("{"):  # do not read a list: its only line may be long
        return {}
    lines.seek(0)
    first = lines.readline()
    try:
        found = json.loads(first)
        if any(map(str.strip, lines)):
            return {}
    except ValueError:  # an object that spans several lines
        found = json.loads(first + lines.read())
    return found if isinstance(found, dict) else {}


def _columns(found: Mapping[str, Any], file: Path) -> list[dict[str, Any]]:
    """The rows of an object that is a table of columns; empty: it is not.

    Raises:
        InputError: the object holds only lists, of different lengths.
    """
    cells = list(found.values())
    if cells and all(isinstance(c, dict) and c and all(map(str.isdigit, c)) and [*c] == [*cells[0]] for c in cells):
        cells = [list(column.values()) for column in cells]
    plain = [isinstance(c, list) and not any(isinstance(cell, dict) for cell in c) for c in cells]
    if not any(plain) or not all(isinstance(c, list) and len(c) > 1 for c in cells):
        return []
    if len({len(column) for column in cells}) > 1:
        if not all(plain):
            return []
        lengths = {name: len(column) for name, column in zip(found, cells, strict=True)}
        raise InputError(
            f"{file} is one object of lists, but they are not columns of a table, as their lengths differ: "
            f"{lengths}. If it is one row, wrap it in a list: [{{...}}]"
        )
    return [dict(zip(found, row, strict=True)) for row in zip(*cells, strict=True)]


def _captioned(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each of COCO's images that has captions, with all of them; empty: it is another object."""
    pictures, captions = found.get("images"), found.get("annotations")
    if not (_are_rows(pictures) and _are_rows(captions)):
        return []
    if not ({"id", "file_name"} <= {*pictures[0]} and {"image_id", "caption"} <= {*captions[0]}):
        return []
    of: dict[Any, list[Any]] = {}
    for caption in captions:
        of.setdefault(caption.get("image_id"), []).append(caption.get("caption"))
    ids = ((picture.get("file_name"), picture.get("id")) for picture in pictures)
    return [{"image": name, "caption": of[number], "image_id": number} for name, number in ids if number in of]


def _are_rows(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
