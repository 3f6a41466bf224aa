"""Ids say what a row is about, as 62-bit hashes that are the same on every rank and every machine.

Each namespace (label, row, content) is hashed separately: ids collide only by chance (2^-62 per pair).
"""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from multicl.data.equal_files import Files, bytes_key, file_key
from multicl.seeds import hash62, hashes62
from multicl.types import InputError

Ids = np.ndarray[Any, np.dtype[np.int64]]
SET_BITS = 48
"""A stable row number is (set number << 48) + position in the set."""
_TEXT = b"text\0"
"""Prefix of a text's bytes: hashing both gives `hash62("text", text)` in two thirds of the time."""


def label_key(value: Any) -> str | None:
    """The text under which a label is hashed, or None for "unlabelled".

    Strings and numbers with the same text are one label: 3, 3.0 and "3"; True, 1 and "1". Null, NaN, -1 and the empty
    string are no label.
    """
    if value is None:
        return None
    if getattr(value, "ndim", None) == 0:  # a number of numpy, or of torch
        value = value.item()
    if isinstance(value, bool):
        value = int(value)
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if value.is_integer():
            value = int(value)
    text = str(value).strip()
    return None if text in ("", "-1") else text


def row_id(row: int) -> int:
    """The id of a row that shares its subject with no other row."""
    return hash62("row", row)


def row_ids(rows: Iterable[int]) -> Ids:
    """[N] ids of rows that share their subject with no other row."""
    return hashes62("row", rows)


def label_ids(values: Iterable[Any], rows: Iterable[int], what: str = "ids") -> Ids:
    """[N] ids of labels; an unlabelled row is a class of its own.

    Args:
        what: what an error message calls the labels.

    Raises:
        InputError: a cell is a list of labels: a single id cannot express that rows share one of several.
    """
    known: dict[str, int] = {}
    ids = []
    for value, row in zip(values, rows, strict=True):
        if isinstance(value, list | tuple) or getattr(value, "ndim", False):
            raise InputError(
                f"{what}: row {row} has several values, {value!r}, but training takes one per row. Give ids= a column "
                "with one value per row, or write a row for each of the values; evaluation accepts several"
            )
        key = label_key(value)
        if key is None:
            ids.append(row_id(int(row)))
            continue
        if key not in known:
            known[key] = hash62("label", key)
        ids.append(known[key])
    return np.array(ids, dtype=np.int64)


def content_ids(
    columns: Sequence[Iterable[Any]], rows: Iterable[int], files: Sequence[Files | None] = ()
) -> tuple[Ids, int]:
    """Ids that are equal for rows that share a text or a file in any of the columns (any one, if a cell is a list).

    Sharing is transitive: if rows 1 and 2 share a caption, and 2 and 3 a picture, all three are about one thing.

    Args:
        files: for each column, a `Files` if its strings are paths, to match copies of a file under other names or
            embedded in tables; None, or left out: strings are texts.

    Returns:
        [N] ids, and how many rows share their content with another.
    """
    numbers = np.fromiter(rows, dtype=np.int64)
    first = first_of_content(columns, len(numbers), files)
    shared = np.bincount(first, minlength=len(numbers))[first] > 1
    ids = np.empty(len(numbers), dtype=np.int64)
    ids[~shared] = row_ids(numbers[~shared].tolist())
    ids[shared] = hashes62("content", numbers[first[shared]].tolist())
    return ids, int(shared.sum())


def first_of_content(columns: Sequence[Iterable[Any]], rows: int, files: Sequence[Files | None] = ()) -> Ids:
    """[N] position of the first row that is about the same thing as each row.

    Args:
        columns, files: as `content_ids`. rows: their number N.
    """
    parent = list(range(rows))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for column, looked in zip_longest(columns, files):
        places, keys = _keys(column, looked)
        _, first, of = np.unique(keys, return_index=True, return_inverse=True)
        before = places[first][of]
        again = before != places  # usually few; rows without repeats cost no Python step
        for i, j in zip(places[again].tolist(), before[again].tolist(), strict=True):
            a, b = root(i), root(j)
            parent[max(a, b)] = min(a, b)
    return np.fromiter(map(root, range(rows)), np.int64, rows)


def _keys(column: Iterable[Any], files: Files | None) -> tuple[Ids, Ids]:
    """[K] positions of cells and [K] keys, one per text or file in a column; a cell may hold several, or none.

    A path has the key of its text; a file that may equal another also has a key of its bytes.
    """
    places, keys = array("q"), array("q")
    first: dict[str, int] = {}
    sizes: set[int] = set()
    for i, cell in enumerate(column):
        for part in cell if isinstance(cell, list | tuple) else (cell,):  # several captions of one thing
            value = _stored(part)
            if (key := _key(value)) is None:
                continue
            places.append(i)
            keys.append(key)
            if files is not None and isinstance(value, str):
                first.setdefault(value, i)
            elif files is not None:
                sizes.add(len(value))
    if files is not None:
        equal = files.keys(first, sizes)
        places.extend(map(first.__getitem__, equal))
        keys.extend(equal.values())
    return np.array(places, dtype=np.int64), np.array(keys, dtype=np.int64)


def content_key(value: Any, largest: int = 0) -> int | None:
    """The 62-bit hash of a cell's content, or None if there is nothing to compare (null, a list, a decoded object).

    Args:
        largest: above 0, a string is a path: a file of up to this many bytes is hashed by content, one that is larger
            or cannot be read by its path. 0: a string is a text.
    """
    value = _stored(value)
    if largest and isinstance(value, str) and (key := file_key(value, largest)) is not None:
        return key
    return _key(value)


def _key(value: Any) -> int | None:
    if isinstance(value, str):
        text = value.strip()
        return bytes_key(_TEXT + text.encode("utf-8", "surrogatepass")) if text else None
    return bytes_key(value) if isinstance(value, bytes | bytearray) and value else None


def _stored(value: Any) -> Any:
    """The bytes, path or text of a cell; anything else is returned unchanged."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):  # Hugging Face's undecoded media
        return value.get("bytes") or value.get("path")
    return os.fspath(value) if isinstance(value, os.PathLike) else value
