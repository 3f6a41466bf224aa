"""What a search database holds, and how it is opened: a table of rows, and one record of the model that embedded them.

Table `rows`: id (content), row (number in the data), _source (which data), the data's plain columns (its own `id` as
`data_id`), and for each node of the model `NODE_vector` (a unit vector [D]; null where a row lacks the node),
`NODE_mime` (null then, too), `NODE_preview` (for pages), `_NODE_file` (the name of its file, if it has one) and
`_NODE_content` (a hash of the content, equal for rows of the same picture).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

import pyarrow as pa
import torch

from multicl.config import from_plain
from multicl.model import Model
from multicl.types import InputError

ROWS, ABOUT = "rows", "multicl"
SOURCE = "_source"
"""Column with the name of a row's data; null: rows in memory, or rows added before this column existed."""
SPARE = ("_wider", "_narrower")
"""Columns that exist only while a column of integers is converted to floats."""
OF_LANCE = {"_distance", "_rowid", "_rowaddr", "_rowoffset", "_row_created_at_version", "_row_last_updated_at_version"}
"""LanceDB's own columns."""
UNFIT = r"[.`\0]|^\*$"
"""Pattern of what the name of a LanceDB column cannot contain, or be."""
FORMAT = 1


@dataclass(frozen=True)
class Approximate:
    """The approximate index of a node's vectors, and how well it finds them."""

    rows: int
    """Number of vectors when the index was built."""
    parts: int
    probes: int
    """Parts that a search probes."""
    recall: float
    """Recall@10, measured against exact search."""


@dataclass(frozen=True)
class About:
    """The model whose vectors a database holds."""

    model: str
    """Where the model was when it filled the database."""
    fingerprint: str
    """Hash of its weights."""
    space: str | None
    """The space of the vectors; None: the encoders' features."""
    format: int = FORMAT
    approximate: dict[str, Approximate] = field(default_factory=dict)
    """Node -> its approximate index; nodes without one are searched exactly."""


def fingerprint(model: Model) -> str:
    """Hash (blake2b) of all weights except the objectives': the same before and after saving, on any device."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.towers.state_dict().items()):
        if not name.startswith("objectives."):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def connect(where: str | Path, create: bool = False) -> Any:
    """Connect LanceDB to a folder or an object store's URI ("s3://bucket/things").

    Raises:
        InputError: LanceDB is not installed; there is no such folder (without `create`), it holds something else, or
            it cannot be opened.
    """
    os.environ.setdefault("LANCEDB_LOG", "error")  # LanceDB warns of every new table
    try:
        import lancedb
    except ImportError:
        raise InputError("searching needs LanceDB: pip install 'multicl[search]'") from None
    name = os.fspath(where)
    if "://" not in name:
        folder = Path(name).expanduser()
        if folder.exists() and not (folder.is_dir() and _is_ours(folder)):
            raise InputError(
                f"{folder} is not a search database: give one that `multicl index` filled, or a new folder"
            )
        if not folder.exists() and not create:
            raise InputError(
                f"no such search database: {folder} (make it: multicl index RUN --data DATA --out {quote(str(folder))})"
            )
        name = str(folder)
    try:
        return lancedb.connect(name)
    except Exception as error:  # of many types: an unreachable store, a folder without permission
        raise InputError(f"cannot open the search database {name}: {first_line(error)}") from error


def _is_ours(folder: Path) -> bool:
    """Whether a folder is empty or holds the record, which is written first."""
    return (folder / f"{ABOUT}.lance").is_dir() or not any(folder.iterdir())


def table_names(db: Any) -> list[str]:
    """Names of a connection's tables."""
    return list(db.list_tables().tables)


def read_about(db: Any) -> About | None:
    """The record of a database; None where there is none yet.

    Raises:
        InputError: it is of another format, or has fields that are unknown or missing.
    """
    if ABOUT not in table_names(db):
        return None
    plain = json.loads(db.open_table(ABOUT).to_arrow().column("about")[0].as_py())
    if plain.get("format") != FORMAT:
        raise InputError(f"the search database is of format {plain.get('format')}, and this multicl reads {FORMAT}")
    return from_plain(About, plain)


def write_about(db: Any, about: About) -> None:
    """Replace the record."""
    db.create_table(ABOUT, pa.table({"about": [json.dumps(asdict(about))]}), mode="overwrite")


def schema_of(dims: Mapping[str, int], plain: Mapping[str, pa.DataType]) -> pa.Schema:
    """The table's columns. dims: node -> width of its vectors. plain: the data's own columns."""
    fields = [pa.field("id", pa.int64()), pa.field("row", pa.int64()), pa.field(SOURCE, pa.string())]
    fields += [pa.field(name, kind) for name, kind in plain.items()]
    for node, dim in dims.items():
        fields += [
            pa.field(f"{node}_vector", pa.list_(pa.float32(), dim)),
            pa.field(f"{node}_mime", pa.string()),
            pa.field(f"{node}_preview", pa.binary()),
            pa.field(file_column(node), pa.string()),
            pa.field(content_column(node), pa.int64()),
        ]
    return pa.schema(fields)


def file_column(node: str) -> str:
    """Name of the column that holds the file names of a node's media."""
    return f"_{node}_file"


def content_column(node: str) -> str:
    """The column of the contents of a node's cells: rows of equal ones hold the same picture, sound or text."""
    return f"_{node}_content"


def kept_names(columns: Iterable[str], nodes: list[str]) -> dict[str, str]:
    """Columns of the data -> their names in the table, which differ from the table's own columns and LanceDB's.

    "id" becomes "data_id"; characters that a name cannot contain are replaced: "a.b" becomes "a_b".
    """
    own, taken, found = own_columns(nodes), set(columns), {}
    for column in columns:
        name = re.sub(UNFIT, "_", column) or "unnamed"
        while name in own or (name != column and name in taken):
            name = f"data_{name}"
        taken.add(name)
        found[column] = name
    return found


def own_columns(nodes: list[str]) -> set[str]:
    """Names of the table's own columns and of LanceDB's."""
    of_nodes = (f"{node}_{end}" for node in nodes for end in ("vector", "mime", "preview"))
    return {"id", "row", SOURCE, *SPARE, *OF_LANCE, *of_nodes, *map(file_column, nodes), *map(content_column, nodes)}


def first_line(error: BaseException) -> str:
    """The first line of a LanceDB error's message, or its type if it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
