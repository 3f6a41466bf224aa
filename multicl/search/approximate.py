"""Approximate search among many vectors: an inverted file (IVF) over k-means parts, whose recall is measured."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from multicl.search.database import Approximate

if TYPE_CHECKING:
    import numpy as np

EXACT_BELOW = 50_000
"""Number of vectors below which exact search is fast enough."""
WANTED = 0.95
"""Recall@10 to reach, by probing as many parts as it takes."""
QUERIES = 100
"""Number of queries with which recall is measured."""


def build(
    table: Any, column: str, content: str, queries: np.ndarray[Any, np.dtype[np.float32]], vectors: int
) -> Approximate:
    """Index a column of unit vectors and choose how many parts a search probes.

    Args:
        content: the column whose equal values mark rows of the same item; null: the row is an item of its own.
        queries: [Q, D], like those to come, to measure recall with. vectors: how many the column has.
    """
    from lancedb.index import IvfFlat

    parts = max(1, round(math.sqrt(vectors)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about parts that stay empty where vectors are few or equal
        table.create_index(column, config=IvfFlat(distance_type="cosine", num_partitions=parts), replace=True)
    return measure(table, column, content, queries, vectors, parts)


def measure(
    table: Any, column: str, content: str, queries: np.ndarray[Any, np.dtype[np.float32]], vectors: int, parts: int
) -> Approximate:
    """Choose the fewest probes, among powers of 2, that reach the wanted recall; else all parts."""
    exact = [_ten(table, column, content, q, None) for q in queries]
    probes = 1
    while True:
        found = [_ten(table, column, content, q, probes) for q in queries]
        recall = recall_at(found, exact)
        if recall >= WANTED or probes >= parts:
            return Approximate(vectors, parts, probes, round(recall, 4))
        probes = min(parts, 2 * probes)


def recall_at(found: Sequence[Sequence[int]], exact: Sequence[Sequence[int]]) -> float:
    """Share of the exact nearest neighbours that were found, over all queries."""
    hits = sum(len(set(f) & set(e)) for f, e in zip(found, exact, strict=True))
    return hits / max(1, sum(map(len, exact)))


def nearest(table: Any, column: str, vector: Any, probes: int | None) -> Any:
    """A LanceDB query for the rows nearest to a vector [D] by cosine; probes: parts to look at, None: exact search."""
    query = table.search(vector, vector_column_name=column).distance_type("cosine")
    if probes is None:
        return query.bypass_vector_index()
    return query.minimum_nprobes(probes).maximum_nprobes(0)  # 0: no limit, for filters that leave too few rows


def _ten(table: Any, column: str, content: str, vector: Any, probes: int | None) -> list[int]:
    """The items of the 10 nearest rows, each once."""
    found = nearest(table, column, vector, probes).select(["id", content, "_distance"]).limit(10).to_arrow()
    return list(dict.fromkeys(row["id"] if row[content] is None else row[content] for row in found.to_pylist()))
