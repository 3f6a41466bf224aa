"""Rows of any data set: whatever `datasets` reads, and any data already in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from multicl.data.cells import is_null, resolve_path
from multicl.data.sources.named import open_named
from multicl.data.sources.reasons import reason
from multicl.data.sources.taken import cells_of
from multicl.data.sources.undecoded import records, undecoded
from multicl.types import InputError

PEEK = 16
"""Rows that are read to find the column names of data that do not list them."""
Row = Mapping[str, Any]


class _NoLength(InputError, TypeError):
    """No length. Also a TypeError, so that list(rows) falls back to plain iteration."""


class Rows:
    """A data set as rows of undecoded cells.

    Args:
        data: a `datasets.Dataset` or `IterableDataset`, or any sequence of dicts (or of tuples: columns "0", "1", ...);
            data without a length or without indexing are a stream.
        columns: requested name -> column of the data. If that column is missing but the name itself is a column,
            the name is used.
        base: the folder against which relative paths in cells are resolved; see `multicl.data.sources.beside`.
        label: what messages call the data.
    """

    def __init__(
        self, data: Any, columns: Mapping[str, str] | None = None, base: Path | None = None, label: str = "the data"
    ) -> None:
        self.data = data
        self.base = base
        self.label = label
        self.streaming = not _is_map(data)
        self._columns = dict(columns or {})
        self._tables: dict[tuple[str, ...], Any] = {}
        self.groups: tuple[np.ndarray[Any, np.dtype[np.int64]], int] | None = None
        """[N] the number of each row's label, and how many rows of a label training visits together; see `grouped`."""
        self.names: list[str] | None = self._find_names()

    def __getstate__(self) -> dict[str, Any]:
        """The state sent to loader processes. A stream's data are left out: the main process reads them."""
        return self.__dict__ | ({"data": None} if self.streaming else {})

    def _find_names(self) -> list[str] | None:
        names = getattr(self.data, "column_names", None)
        if names is not None:
            return list(names)
        if isinstance(self.data, list):  # cheap to scan, and some rows may lack columns
            looked_at: Iterable[Row] = map(_as_dict, self.data)
        else:
            looked_at = islice(self, PEEK)
        return list(dict.fromkeys(str(name) for row in looked_at for name in row)) or None

    def __len__(self) -> int:
        if self.streaming:
            raise _NoLength(f"{self.label} is a stream and has no length: give --train.steps instead of epochs")
        return len(self.data)

    @property
    def sizes(self) -> list[int]:
        """The number of rows of each underlying set."""
        return [len(self)]

    def numbers(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """[N] the stable numbers of all rows, as `fetch` takes them."""
        return np.arange(len(self))

    def places(self, numbers: Sequence[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """[n] stable numbers -> [n] their places among all rows."""
        return np.asarray(numbers, dtype=np.int64)

    def base_of(self, number: int) -> Path | None:
        """The folder against which a row's relative paths are resolved."""
        return self.base

    def resolve(self, name: str, wanted_by: str = "") -> str:
        """The data's column for a name.

        Raises:
            InputError: there is no such column; the message lists all columns and suggests the nearest.
        """
        column = self._columns.get(name, name)
        if self.names is None or column in self.names:
            return column
        if column != name and name in self.names:
            return name
        near = get_close_matches(column, self.names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(
            f"{self.label} has no column {column!r}{wanted_by}; it has {self.names}.{hint} "
            f"Map it with --data.columns {name} COLUMN, or --columns {name}=COLUMN of commands that have that "
            f"(in Python: columns={{{name!r}: 'COLUMN'}})."
        )

    def check_mapped(self, columns: Mapping[str, str]) -> None:
        """Refuse a mapping to a missing column, where `resolve` would fall back to the column of the name itself.

        Args:
            columns: node -> column, as the user mapped them for these rows only.

        Raises:
            InputError: a column is missing; the message names the first.
        """
        for node, column in columns.items():
            if self.names is not None and column not in self.names:
                near = get_close_matches(column, self.names, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise InputError(
                    f"{self.label} has no column {column!r}, which {node!r} reads by --columns {node}={column}; it has "
                    f"{self.names}{hint}"
                )

    def has(self, name: str) -> bool:
        """Whether the data has a column for this name."""
        try:
            self.resolve(name)
        except InputError:
            return False
        return True

    def row(self, index: int) -> Row:
        """One row, with all its columns."""
        return _as_dict(self.data[index])

    def fetch(self, numbers: Sequence[int], columns: Sequence[str]) -> list[Row]:
        """The rows of these numbers, with at least these columns of the data; a single read if the data are a table."""
        if not _is_table(self.data):
            return [self.row(n) for n in numbers]
        key = tuple(columns)
        if key not in self._tables:
            self._tables[key] = self.data.select_columns(list(key))
        cells = self._tables[key][list(numbers)]
        return [dict(zip(key, row, strict=True)) for row in zip(*(cells[c] for c in key), strict=True)]

    def cells(self, name: str) -> Iterator[Any]:
        """Iterate over every cell of a column, undecoded, in row order."""
        column = self.resolve(name)
        if _is_table(self.data):
            yield from cells_of(self.data, column)
        else:
            for row in self:
                yield row.get(column)

    def column(self, name: str) -> list[Any]:
        """A list of every cell of a column, undecoded."""
        return list(self.cells(name))

    def class_names(self, name: str) -> list[str] | None:
        """The class names of a column of class numbers, where the data give them (`datasets.ClassLabel`); else None."""
        features = getattr(self.data, "features", None) or {}
        names = getattr(features.get(self.resolve(name)), "names", None)
        return list(names) if names else None

    def found(self, name: str, files: bool) -> Iterator[Any]:
        """Iterate over every cell of a column, None where null; `files`: resolve relative paths against `base`."""
        base = self.base if files else None
        for cell in self.cells(name):
            yield None if is_null(cell) else resolve_path(cell, base)

    def resolved(self, name: str, files: bool) -> list[Any]:
        """`found` as a list: the contents of all cells are in memory at once."""
        return list(self.found(name, files))

    def with_column(self, name: str, values: Sequence[Any]) -> Rows:
        """These rows with one more column.

        Raises:
            InputError: a column of that name exists; the data are a stream; the number of values is not that of rows.
        """
        if self.names is not None and name in self.names:
            raise InputError(f"{self.label} has a column {name!r} already: {self.names}")
        if len(values) != len(self):
            raise InputError(f"{self.label} has {len(self)} rows, but column {name!r} would have {len(values)} values")
        if _is_table(self.data):
            import pyarrow

            data: Any = self.data.add_column(name, pyarrow.array(values))  # `datasets` pickles every value of a list
        else:
            data = [{**self.row(i), name: value} for i, value in enumerate(values)]
        return Rows(data, self._columns, self.base, self.label)

    def take(self, numbers: Sequence[int]) -> Rows:
        """The rows of these numbers, in this order, renumbered from 0."""
        if _is_table(self.data):
            # `datasets` pickles every number of a list
            data: Any = self.data.select(numbers if isinstance(numbers, range) else np.asarray(numbers, dtype=np.int64))
        else:
            data = [self.row(n) for n in numbers]
        return Rows(data, self._columns, self.base, self.label)

    def first(self, count: int) -> Rows:
        """The first `count` rows, or all if there are fewer; those of a stream are read now."""
        if self.streaming:
            return Rows(list(islice(self, count)), self._columns, self.base, self.label)
        return self if count >= len(self) else self.take(range(count))

    def __iter__(self) -> Iterator[Row]:
        if not self.streaming:
            for i in range(len(self)):
                yield self.row(i)
            return
        done = 0
        try:
            for row in self.data:
                yield _as_dict(row)
                done += 1
        except InputError:
            raise
        except Exception as error:  # a file or connection broke mid-stream; each library raises its own kind
            raise InputError(f"{self.label}: the stream broke after {done} rows: {reason(error)}") from error


def open_rows(
    source: Any,
    *,
    split: str = "train",
    config: str | None = None,
    columns: Mapping[str, str] | None = None,
    streaming: bool = False,
) -> Rows:
    """Open any supported source as Rows; media columns stay bytes or paths.

    Args:
        source: a path (a table, a folder of tables, images or sounds, or a WebDataset tar; * and {00..09} work), a URL
            of a table, a hub name, a `datasets` Dataset, DatasetDict or stream, a DataFrame, any other Arrow table
            (polars), a torch Dataset, or a sequence of dicts or tuples (named tuples name their columns). An iterable
            that is not a sequence is a stream. From a path, URL or hub name, the columns caption_1, caption_2, ... are
            also gathered into a column of lists, caption.
        split: a split of a folder, hub name or DatasetDict; "test[:100]" as in `datasets`. One file is split "train".
        config: the hub set's or folder's configuration. streaming: read on the fly, without preparing anything first.

    Raises:
        InputError: the path or split does not exist, is empty, or cannot be read.
    """
    if isinstance(source, Rows):
        return source
    if isinstance(source, str | os.PathLike):
        data, base, label = open_named(os.fspath(source), split, config, streaming)
        return Rows(data, columns, base, label)
    kind = type(source).__module__.partition(".")[0]
    label = "the data"
    if kind == "datasets" and isinstance(source, dict):
        if split not in source:
            raise InputError(f"the DatasetDict has no split {split!r}; it has {sorted(source)}")
        source = source[split]
    if kind == "datasets":
        source = undecoded(source)
    elif (kind == "pyarrow" and hasattr(source, "column_names")) or (
        kind not in ("pandas", "pyarrow") and hasattr(source, "__arrow_c_stream__")  # a polars DataFrame, for example
    ):
        import pyarrow
        from datasets import Dataset, table

        source = source if kind == "pyarrow" else pyarrow.table(source)
        source, label = undecoded(Dataset(table.InMemoryTable(source))), "the table"
    elif kind == "pandas" and hasattr(source, "columns"):
        source, label = records(source), "the DataFrame"
    elif hasattr(source, "dataset") and hasattr(source, "batch_sampler"):
        raise InputError(
            "a DataLoader gives batches: give its data set, loader.dataset; train.batch_size makes batches"
        )
    elif isinstance(source, Iterator):
        raise InputError(
            f"a {type(source).__name__} can be read only once: give a list, or an object whose __iter__ starts anew"
        )
    elif (
        isinstance(source, dict | str | bytes)
        or kind in ("pandas", "pyarrow")
        or not (_is_map(source) or hasattr(source, "__iter__"))
    ):
        raise InputError(
            f"cannot read rows from a {type(source).__name__}: give a path, a hub name, a datasets.Dataset, a "
            "DataFrame, a torch Dataset or a list of dicts"
        )
    if _is_map(source) and len(source) == 0:
        raise InputError(f"{label} has no rows")
    return Rows(source, columns, label=label)


def _is_map(data: Any) -> bool:
    """Whether rows can be indexed by number."""
    from torch.utils.data import IterableDataset

    return hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, IterableDataset)


def _is_table(data: Any) -> bool:
    """Whether this is a `datasets.Dataset` whose cells come as they are stored."""
    return hasattr(data, "select_columns") and _is_map(data) and data.format["type"] is None


def _as_dict(row: Any) -> Row:
    if isinstance(row, Mapping):
        return row
    if hasattr(row, "_asdict"):  # a named tuple
        named: Row = row._asdict()
        return named
    if isinstance(row, Sequence) and not isinstance(row, str | bytes):
        return {str(i): cell for i, cell in enumerate(row)}
    raise InputError(f"a row must be a dict of columns or a tuple, got {type(row).__name__}")
