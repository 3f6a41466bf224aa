"""A run's data settings, for commands that read other data with its model: the same column mapping applies to both."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from multicl.config import from_plain, read_yaml
from multicl.data.loading import Data
from multicl.data.rows import Rows, open_rows
from multicl.graph import column_of
from multicl.types import InputError, Modality

log = logging.getLogger(__name__)


def own_data(name: str | Path) -> Data:
    """The data settings in a run's recipe.yaml; the defaults for a saved model or a hub name, which have no such file.

    The recipe itself is not imported: its file may be gone.

    Raises:
        InputError: the file cannot be read, or does not hold valid data settings.
    """
    file = Path(name).expanduser() / "recipe.yaml"
    recorded = read_yaml(file).get("data", {}) if file.is_file() else {}
    known = {field.name for field in fields(Data)}  # a recipe's subclass of Data has more
    try:
        return from_plain(Data, {key: value for key, value in recorded.items() if key in known}, "data")
    except (InputError, AttributeError) as error:
        raise InputError(f"{file}: {error}") from error


def rows_for(
    own: Data, nodes: Mapping[str, Modality], data: Any, split: str, columns: Mapping[str, str],
    chosen: Sequence[str] | None = None,
) -> tuple[Rows, dict[str, str]]:  # fmt: skip
    """Data as Rows, and a mapping of node -> column for the nodes whose column is there; the others are logged.

    Args:
        own: the data settings of the model's run; its column mapping applies to these data too.
        nodes: node -> adapter. data, split: as `open_rows` takes them.
        columns: node -> column of the data, where it differs from the run's.
        chosen: the only nodes wanted; each must have its column.

    Raises:
        InputError: `columns` or `chosen` names an unknown node; a mapped or chosen column is missing; no node has one.
    """
    if unknown := [node for node in columns if node not in nodes]:
        raise InputError(f"--columns names {unknown[0]!r}, but the model's nodes are {list(nodes)}")
    if unknown := [node for node in chosen or () if node not in nodes]:
        raise InputError(f"the model has no node {unknown[0]!r}; it has {list(nodes)}")
    wanted = {node: column_of(node, modality) for node, modality in nodes.items()}
    mapped = own.columns | {wanted[node]: column for node, column in columns.items()}
    rows = open_rows(data, split=split, config=own.config_of(data), columns=mapped)
    rows.check_mapped(columns)
    if chosen:
        return rows, {node: rows.resolve(wanted[node], f", which {node!r} reads") for node in chosen}
    found = {node: rows.resolve(column) for node, column in wanted.items() if rows.has(column)}
    if not found:
        before = f" (its run read {own.columns})" if own.columns else ""
        raise InputError(
            f"none of the model's nodes {list(nodes)} has a column in {rows.label}, which has {rows.names}{before}: "
            "map one with --columns NODE=COLUMN"
        )
    for node in (node for node in nodes if node not in found):
        column = mapped.get(wanted[node], wanted[node])
        log.warning("%s is left out: %s has no column %r (--columns %s=COLUMN)", node, rows.label, column, node)
    return rows, found
