"""Held-out rows that stand among those to train on, too: their figures tell what was learnt by heart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from multicl.adapters import adapter
from multicl.equal_files import Files
from multicl.fit.plan import Node
from multicl.ids import content_ids
from multicl.rows import Rows, resolve_path

MOST = 100_000
"""Rows of data that are looked through for copies, every one of which is read."""


def copies(nodes: Sequence[Node], train: Rows, held: Rows) -> int:
    """Held-out rows whose text or file is, in every node, that of one row to train on; 0 of more rows than MOST."""
    if len(train) + len(held) > MOST:
        return 0
    ids = []
    for node in nodes:
        files = adapter(node.kind)().files
        cells = chain(_cells(train, node.column, files), _cells(held, node.column, files))
        ids.append(content_ids([cells], range(len(train) + len(held)), [Files() if files else None])[0].tolist())
    rows = list(zip(*ids, strict=True))
    trained = set(rows[: len(train)])
    return sum(row in trained for row in rows[len(train) :])


def _cells(rows: Rows, column: str, files: bool) -> Iterator[Any]:
    return (resolve_path(cell, rows.base, "files" if files else "values") for cell in rows.cells(column))
