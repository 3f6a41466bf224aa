"""Search for items instead of rows: a picture with several captions fills several rows, but is found once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from multicl.search import approximate
from multicl.search.database import content_column


def nearest_items(
    table: Any, node: str, vector: Any, where: str | None, k: int, probes: int | None
) -> dict[int, float]:
    """Find the k nearest items of a node, each by the first of its rows that are found.

    Args:
        table: of the rows. vector: [D]. where: an SQL condition on the rows. probes: None for exact search.

    Returns:
        LanceDB's number of a row -> cosine distance, the nearest first; fewer than k if there are no more items.
    """
    content = content_column(node)
    named = content in table.schema.names  # a database from before this column has it once it is filled again
    key = f"COALESCE(`{content}`, id)" if named else "id"
    found: dict[int, dict[str, Any]] = {}
    asked = k
    while len(found) < k:
        query = approximate.nearest(table, f"{node}_vector", vector, probes).with_row_id(True)
        others = f"{key} NOT IN ({', '.join(map(str, found))})" if found else None
        if where or others:
            query = query.where(f"({where}) AND {others}" if where and others else where or others, prefilter=True)
        rows = query.select(["id", "row", *[content] * named, "_distance"]).limit(asked).to_arrow().to_pylist()
        for row in sorted(rows, key=lambda row: row["row"]):  # rows of one item are equally near
            of = row.get(content)
            found.setdefault(row["id"] if of is None else of, row)
        if len(rows) < asked:
            break
        asked *= 2  # among what is left: an item may have any number of rows
    nearest = sorted(found.values(), key=lambda row: row["_distance"])[:k]
    return {row["_rowid"]: row["_distance"] for row in nearest}


def rows_at(table: Any, numbers: Sequence[int], names: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of these numbers of LanceDB's, in their order, with the columns `names`."""
    rows = table.take_row_ids(list(numbers)).select(list(names)).with_row_id().to_arrow().to_pylist()
    by_number = {row.pop("_rowid"): row for row in rows}  # they come in any order
    return [by_number[number] for number in numbers]
