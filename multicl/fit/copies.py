"""Held-out rows that stand among those to train on, too: their figures tell what was learnt by heart."""

from __future__ import annotations

from collections.abc import Sequence

from multicl.adapters import adapter
from multicl.equal_files import Files
from multicl.fit.plan import Node
from multicl.ids import content_ids
from multicl.rows import Rows

MOST = 100_000
"""Rows of data that are looked through for copies, every one of which is read."""


def copies(nodes: Sequence[Node], train: Rows, held: Rows) -> int:
    """Held-out rows whose text or file is, in every node, that of one row to train on; 0 of more rows than MOST."""
    if len(train) + len(held) > MOST:
        return 0
    ids = []
    for node in nodes:
        files = adapter(node.kind)().files
        cells = train.resolved(node.column, files) + held.resolved(node.column, files)
        ids.append(content_ids([cells], range(len(train) + len(held)), [Files() if files else None])[0].tolist())
    rows = list(zip(*ids, strict=True))
    trained = set(rows[: len(train)])
    return sum(row in trained for row in rows[len(train) :])
