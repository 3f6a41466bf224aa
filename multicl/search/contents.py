"""Ids of rows by their content, and the columns of plain values that a database can keep."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from multicl.data.cells import is_null, resolve_path
from multicl.data.rows import Rows
from multicl.seeds import hash62

PEEK = 100
"""Cells that are inspected first: they rule out most columns that are not plain."""
EXACT = 2**53
"""Up to this, float64 represents every integer."""


def row_content(row: Mapping[str, Any], columns: Mapping[str, bool], base: Path | None) -> int:
    """62-bit id of a row's content: equal cells give equal ids, wherever their files lie.

    Args:
        columns: name of each column that counts -> whether its strings are paths of files.
        base: the folder that relative paths start from.
    """
    parts = []
    for column, files in columns.items():
        cell = row.get(column)
        if isinstance(cell, float) and cell.is_integer():
            cell = int(cell)  # a column of integers becomes one of floats if a cell is empty
        if not is_null(cell):
            parts.append(f"{column}={_digest(resolve_path(cell, base if files else None), files)}")
    return hash62("row content", *parts)


def cell_content(cell: Any, file: bool) -> int:
    """62-bit id of what a cell holds; file: a string is a path, and its file is what it holds."""
    return hash62("cell content", _digest(cell, file))


def _digest(cell: Any, file: bool) -> str:
    if isinstance(cell, Mapping):  # Hugging Face's undecoded media and decoded sounds
        if cell.get("bytes") is not None:
            return _digest(cell["bytes"], False)
        if cell.get("path") is not None and cell.get("array") is None:
            return _digest(cell["path"], True)
        return " ".join(f"{key}:{_digest(part, False)}" for key, part in cell.items() if part is not None)
    if file and isinstance(cell, str | os.PathLike):
        try:
            cell = Path(cell).read_bytes()
        except (OSError, ValueError):  # embedding will report what is wrong with it
            cell = os.fspath(cell)
    if isinstance(cell, bytes | bytearray | memoryview):
        return hashlib.blake2b(cell, digest_size=16).hexdigest()
    if isinstance(cell, list | tuple):
        return f"[{' '.join(_digest(part, file) for part in cell)}]"
    if getattr(cell, "mode", None) in ("P", "PA"):  # Pillow: an array of it would hold palette indices
        cell = cell.convert("RGBA")
    if hasattr(cell, "__array__") or hasattr(cell, "__array_interface__"):  # numpy, torch, Pillow
        array = np.ascontiguousarray(cell)
        if array.dtype != object:
            return f"{array.shape} {array.dtype} {hashlib.blake2b(array.data, digest_size=16).hexdigest()}"
    return repr(cell)


def plain_columns(rows: Rows) -> dict[str, pa.DataType]:
    """Columns of texts, numbers or booleans -> their Arrow type; all others (media, lists, nulls) are left out.

    Classes (`datasets.ClassLabel`) are kept by name, as texts.
    """
    found: dict[str, pa.DataType] = {}
    for column in rows.names or []:
        if rows.class_names(column):
            found[column] = pa.string()
        elif _plain(islice(rows.cells(column), PEEK)) is not None:
            kind = _plain(rows.cells(column))
            if kind is not None and not pa.types.is_null(kind):
                found[column] = kind
    return found


def _plain(cells: Iterable[Any]) -> pa.DataType | None:
    """The Arrow type of cells: null if all are null, int64 if all are whole numbers; None if they are not plain."""
    kinds: set[type] = set()
    whole = True
    for cell in cells:
        if not is_null(cell):
            kinds.add(type(cell))
            whole = whole and (not isinstance(cell, float) or (cell.is_integer() and abs(cell) <= EXACT))
    if kinds <= {float, int}:
        return (pa.int64() if whole else pa.float64()) if kinds else pa.null()
    if len(kinds) != 1:
        return None
    return {str: pa.string(), bool: pa.bool_()}.get(next(iter(kinds)))


def plain_cells(values: Sequence[Any], kind: pa.DataType, classes: Sequence[str] | None = None) -> pa.Array:
    """Cells as an Arrow array; integers beyond 64 bits and other misfits become null.

    Args:
        classes: names that the values index; -1 is none of them.
    """
    if classes:
        values = [None if is_null(v) or v < 0 else classes[v] for v in values]
    cells = [None if is_null(v) else unicode(v) if isinstance(v, str) else v for v in values]
    try:
        return pa.array(cells, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([_alone(v, kind) for v in cells], kind)


def unicode(text: str) -> str:
    """`text` as valid Unicode: surrogates, which JSON and file names may hold, are joined; lone ones become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _alone(value: Any, kind: pa.DataType) -> Any:
    try:
        return pa.scalar(value, kind).as_py()
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return None
