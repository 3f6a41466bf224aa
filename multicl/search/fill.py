"""Fill a database: embed the rows of data that are new to it, a chunk at a time, so that it can go on after a kill.

Then update the rows that were indexed from the same data before: those that now have another number or file get it;
those that were changed or removed are deleted.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from multicl.data.cells import blamed, file_of, is_null, resolve_path
from multicl.data.rows import Row, Rows
from multicl.graph import column_of
from multicl.own_data import rows_for
from multicl.search.contents import cell_content, plain_cells, plain_columns, row_content, unicode
from multicl.search.database import ROWS, SOURCE, SPARE, content_column, file_column, kept_names, schema_of, table_names
from multicl.types import BadSample, InputError
from multicl.waiting import Waiting

if TYPE_CHECKING:
    from multicl.search.index import Index

log = logging.getLogger(__name__)

CHUNK = 1024
"""Rows that are embedded and written at once: the most that a kill loses."""


@dataclass(frozen=True)
class Added:
    """What became of the rows of a data set; counts are over all ranks."""

    rows: int
    new: int
    known: int
    """Rows that were there before."""
    moved: int
    """Those of the known rows that now have another number or file in the data."""
    repeats: int
    """Rows that are copies of other rows in the data."""
    gone: int
    """Rows that were deleted because the data no longer hold them."""
    skipped: tuple[str, ...]
    """Cells of this rank that could not be read."""
    nodes: tuple[str, ...]
    """Nodes that the data have a column for."""


@dataclass(frozen=True)
class _Plan:
    """What is read from each row."""

    rows: Rows
    nodes: dict[str, str]
    """Node -> column."""
    plain: dict[str, str]
    """The data's own columns that are kept -> their names in the table."""
    kinds: dict[str, pa.DataType]
    """Name in the table -> type."""
    files: dict[str, bool]
    """Every column that is read -> whether its strings are paths."""
    source: str | None
    """The name of the data in the database; None: rows in memory, which have no name."""


def add(index: Index, data: Any, split: str, columns: Mapping[str, str], batch_size: int, on_error: str) -> Added:
    """See `Index.add`."""
    plan = _plan(index, data, split, columns)
    world = index.world
    if world.rank == 0:
        _prepare(index, plan)
    world.barrier()
    table = index.db.open_table(ROWS)
    ids, places = _contents(index, plan)
    known = np.asarray(table.search().select(["id"]).to_arrow().column("id").to_numpy())
    first = np.zeros(len(ids), dtype=bool)
    first[np.unique(ids, return_index=True)[1]] = True
    old = np.isin(ids, known)
    todo = np.flatnonzero(first & ~old)
    world.barrier()  # every rank has seen what was there before any of them adds to it
    mine = np.array_split(todo, world.size)[world.rank]
    skipped: list[str] = []
    kept = 0
    with Waiting(len(mine), "index", "row") as bar:
        for start in range(0, len(mine), CHUNK):
            numbers = mine[start : start + CHUNK].tolist()
            chunk = _embedded(index, plan, numbers, ids, table.schema, batch_size, skipped)
            if skipped and on_error == "raise":
                raise InputError(f"{plan.rows.label}: {skipped[0]} (--on-error skip leaves such cells out)")
            if chunk.num_rows:
                table.add(chunk)
            kept += chunk.num_rows
            bar.update(len(numbers))
    new = int(world.sum(torch.tensor([kept], device=index.model.towers.device)))
    repeats = int((~first & ~old).sum())
    moved = taken = 0
    if plan.source:
        places = places.filter(pa.array((first & old)[places.column("row").to_numpy()]))
        for rank in range(world.size):  # one by one: two writers of the same columns would conflict
            if rank == world.rank:
                moved = _move(index.db.open_table(ROWS), plan.source, places)
            world.barrier()
        taken = _take_out(index.db.open_table(ROWS), plan.source, ids) if world.rank == 0 else 0
    moved, gone = world.sum(torch.tensor([moved, taken], device=index.model.towers.device)).tolist()
    return Added(len(ids), new, int(old.sum()), moved, repeats, gone, tuple(skipped), tuple(plan.nodes))


def _of(table: Any, source: str, names: list[str]) -> pa.Table:
    """Some columns of the rows of one source."""
    quoted = source.replace("'", "''")
    return table.search().where(f"{SOURCE} = '{quoted}'").select(names).to_arrow().select(names)


def _move(table: Any, source: str, places: pa.Table) -> int:
    """Give the rows of a source the numbers and files in `places`; returns how many had others."""
    before = {row[0]: row for row in zip(*_of(table, source, places.column_names).to_pydict().values(), strict=True)}
    now = zip(*places.to_pydict().values(), strict=True)
    moved = places.filter(pa.array([before.get(row[0], row) != row for row in now], pa.bool_()))
    if moved.num_rows:
        table.merge_insert("id").when_matched_update_all().execute(moved)
    return int(moved.num_rows)


def _take_out(table: Any, source: str, ids: np.ndarray[Any, np.dtype[np.int64]]) -> int:
    """Delete the rows of a source whose content is not among `ids`; returns how many."""
    stale = np.setdiff1d(_of(table, source, ["id"]).column("id").to_numpy(), ids)
    for start in range(0, len(stale), CHUNK):
        table.delete(f"id IN ({', '.join(map(str, stale[start : start + CHUNK]))})")
    return len(stale)


def _plan(index: Index, data: Any, split: str, columns: Mapping[str, str]) -> _Plan:
    modalities = {node: index.model.towers.modalities[node] for node in index.nodes}
    rows, nodes = rows_for(index.own, modalities, data, split, columns)
    if rows.streaming:
        raise InputError(f"{rows.label} is a stream, whose rows cannot be numbered: give a table, a folder or a list")
    types = plain_columns(rows)
    plain = kept_names(types, index.nodes)
    if (renamed := {column: name for column, name in plain.items() if name != column}) and index.world.rank == 0:
        why = "the database uses these names itself, or cannot hold them"
        log.warning("%s: columns kept under other names, as %s: %s", rows.label, why, renamed)
    kinds = {plain[column]: kind for column, kind in types.items()}
    mapped = {node: column for node, column in nodes.items() if column != column_of(node, modalities[node])}
    files = dict.fromkeys(plain, False) | {column: modalities[node].files for node, column in nodes.items()}
    return _Plan(rows, nodes, plain, kinds, files, _source(data, split, mapped))


def _source(data: Any, split: str, columns: Mapping[str, str]) -> str | None:
    """The name of data: their full path or what was given, the split, and mapped columns; None for rows in memory."""
    if not isinstance(data, str | os.PathLike):
        return None
    path = Path(os.fspath(data)).expanduser()
    name = str(path.resolve()) if path.exists() else os.fspath(data)
    return " ".join([name, split, *(f"{node}={column}" for node, column in sorted(columns.items()))])


def _prepare(index: Index, plan: _Plan) -> None:
    """Create the table, or add the columns that these rows have and it lacks."""
    if ROWS not in table_names(index.db):
        dims = {node: index.model.towers.dim(node, index.space) for node in index.nodes}
        index.db.create_table(ROWS, schema=schema_of(dims, plan.kinds))
        return
    table = index.db.open_table(ROWS)
    there = {field.name: field.type for field in table.schema}
    if left := [name for name in SPARE if name in there]:  # by a killed `_widen`
        table.drop_columns(left)
    others = {name: there[name] for name, kind in plan.kinds.items() if there.get(name, kind) != kind}
    for name, other in others.items():
        kind = plan.kinds[name]
        if {other, kind} != {pa.int64(), pa.float64()}:
            raise InputError(f"column {name!r} of {plan.rows.label} holds {kind}, but {other} in the database")
    for name, other in others.items():
        if other == pa.int64():
            _widen(table, name)
    own = dict.fromkeys([SOURCE, *map(file_column, index.nodes)], pa.string())
    own |= dict.fromkeys(map(content_column, index.nodes), pa.int64())
    if new := [pa.field(name, kind) for name, kind in (own | plan.kinds).items() if name not in there]:
        table.add_columns(new)


def _widen(table: Any, name: str) -> None:
    """Convert a column of integers to floats, which LanceDB cannot do in place."""
    wider, narrower = SPARE
    table.add_columns({wider: f"CAST(`{name}` AS DOUBLE)"})
    table.alter_columns({"path": name, "rename": narrower}, {"path": wider, "rename": name})  # both at once
    table.drop_columns([narrower])


def _contents(index: Index, plan: _Plan) -> tuple[np.ndarray[Any, np.dtype[np.int64]], pa.Table]:
    """[N] content ids of all rows; and id, row and files of this rank's share, the only rows that it reads."""
    world = index.world
    mine = np.array_split(np.arange(len(plan.rows)), world.size)[world.rank]
    found: list[int] = []
    files: dict[str, list[str | None]] = {node: [] for node in plan.nodes}
    for start in range(0, len(mine), CHUNK):
        rows = plan.rows.fetch(mine[start : start + CHUNK].tolist(), list(plan.files))
        found += [row_content(row, plan.files, plan.rows.base) for row in rows]
        for node, column in plan.nodes.items():
            files[node] += [_file(row.get(column), plan.rows.base) for row in rows]
    device = index.model.towers.device
    ids = torch.tensor(found, dtype=torch.int64, device=device)
    places = {"id": pa.array(found, pa.int64()), "row": pa.array(mine, pa.int64())}
    places |= {file_column(node): pa.array(of_node, pa.string()) for node, of_node in files.items()}
    return world.all_rows(ids, world.counts(len(found), device)).cpu().numpy(), pa.table(places)


def _embedded(
    index: Index,
    plan: _Plan,
    numbers: Sequence[int],
    ids: np.ndarray[Any, np.dtype[np.int64]],
    schema: pa.Schema,
    batch_size: int,
    skipped: list[str],
) -> pa.Table:
    """The rows of some numbers as the table stores them, without those of which nothing could be embedded."""
    rows = plan.rows.fetch(numbers, list(plan.files))
    arrays: dict[str, pa.Array] = {"id": pa.array(ids[list(numbers)]), "row": pa.array(numbers, pa.int64())}
    arrays[SOURCE] = pa.array([plan.source] * len(rows), pa.string())
    there = np.zeros(len(rows), dtype=bool)
    for node, column in plan.nodes.items():
        vectors, media, contents = _node(index, plan, node, numbers, rows, batch_size, skipped)
        has = ~np.isnan(vectors[:, 0])
        there |= has
        flat = pa.array(vectors.ravel(), pa.float32())
        arrays[f"{node}_vector"] = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1], mask=pa.array(~has))
        arrays[f"{node}_mime"] = pa.array([m and m[0] for m in media], pa.string())
        arrays[f"{node}_preview"] = pa.array([m and m[1] for m in media], pa.binary())
        arrays[content_column(node)] = pa.array(contents, pa.int64())
        arrays[file_column(node)] = pa.array([_file(row.get(column), plan.rows.base) for row in rows], pa.string())
    for column, name in plan.plain.items():
        cells, classes = [row.get(column) for row in rows], plan.rows.class_names(column)
        arrays[name] = plain_cells(cells, schema.field(name).type, classes)
    columns = [arrays[f.name].cast(f.type) if f.name in arrays else pa.nulls(len(rows), f.type) for f in schema]
    return pa.table(columns, schema=schema).filter(pa.array(there))


def _file(cell: Any, base: Path | None) -> str | None:
    """The file of undecoded media, relative to the data's folder, else by name alone, as pages show it to strangers."""
    if (file := file_of(cell, files=False)) is None:
        return None
    path, home = PurePath(file), base and base.expanduser().resolve()
    return unicode(path.relative_to(home).as_posix() if home and path.is_relative_to(home) else path.name)


def _node(
    index: Index,
    plan: _Plan,
    node: str,
    numbers: Sequence[int],
    rows: Sequence[Row],
    batch_size: int,
    skipped: list[str],
) -> tuple[np.ndarray[Any, np.dtype[np.float32]], list[tuple[str, bytes | None] | None], list[int | None]]:
    """[n, D] vectors of a node, NaN where a row lacks it or its cell cannot be read; its previews, and contents."""
    modality, column = index.model.towers.modalities[node], plan.nodes[node]
    base = plan.rows.base if modality.files else None
    cells = [resolve_path(row.get(column), base) for row in rows]
    present = [i for i, cell in enumerate(cells) if not is_null(cell)]
    vectors = np.full((len(rows), index.model.towers.dim(node, index.space)), np.nan, dtype=np.float32)
    media: list[tuple[str, bytes | None] | None] = [None] * len(rows)
    contents: list[int | None] = [None] * len(rows)
    bad: dict[int, str] = {}
    if present:
        z = index.model.embed_node(
            node, [cells[i] for i in present], space=index.space, batch_size=batch_size, skipped=bad
        ).numpy()
        for at, i in enumerate(present):
            if at in bad:
                skipped.append(f"row {numbers[i]}, column {column!r}: {blamed(cells[i], modality.files, bad[at])}")
                continue
            vectors[i], contents[i] = z[at], cell_content(cells[i], modality.files)
            try:
                media[i] = modality.preview(cells[i])
            except BadSample:  # what cannot be shown can still be searched
                media[i] = ("", None)
    return vectors, media, contents
