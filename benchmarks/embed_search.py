"""How fast are embedding, indexing and searching, and what does the approximate index miss?

    python benchmarks/embed_search.py [--rows 10000 100000] [--queries 200] [--embed 2048]

Embedding: `Model.embed` of pictures (32 x 32, `Image("small")`) and texts (`Text("words")`), random weights and data.

Search: unit vectors of 256 dimensions in 500 clusters (a centre plus noise of the same length), as embeddings are;
queries are drawn alike. LanceDB runs through `multicl.search` (from disk, with a row's columns in the answer), faiss in
the same process on the same vectors (in memory, positions alone, one query at a time too). Both search exactly, and by
an IVF of sqrt(rows) parts, of which enough are probed for a recall@10 of 0.95 on 100 other queries. Recall is against
numpy's exact search. CPU, all cores.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from common import finish

from multicl import Head, Model, Pair
from multicl.modalities.image import Image
from multicl.modalities.text import Text
from multicl.search import approximate
from multicl.search.database import connect, content_column, schema_of
from multicl.search.items import nearest_items, rows_at
from multicl.towers import Towers

DIM, CLUSTERS, CHUNK, K, WANTED = 256, 500, 1024, 10, 0.95
CONTENT = content_column("x")
Vectors = np.ndarray[Any, np.dtype[np.float32]]


def vectors(count: int, seed: int) -> Vectors:
    """[count, 256] unit vectors; the clusters are the same whatever the seed."""
    centres = np.random.default_rng(0).normal(size=(CLUSTERS, DIM))
    draw = np.random.default_rng([1, seed])
    x = centres[draw.integers(0, CLUSTERS, count)] + draw.normal(size=(count, DIM))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def embedding(count: int) -> list[dict[str, Any]]:
    """Rows embedded per second, by node."""
    draw = np.random.default_rng(0)
    nodes = {"image": Image("small"), "text": Text("words")}
    model = Model(Towers(nodes, [Pair("image", "text")], Head(dim=DIM)))
    cells = {
        "image": list(draw.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)),
        "text": [" ".join(f"w{n}" for n in draw.integers(0, 500, 12)) for _ in range(count)],
    }
    rows = []
    for node, values in cells.items():
        model.embed_node(node, values[:256])
        seconds, _ = timed(lambda node=node, values=values: model.embed_node(node, values))
        rows.append({"what": f"embed {node}", "rows": count, "rows/s": count / seconds})
    return rows


def lance(x: Vectors, queries: Vectors, tuning: Vectors, truth: list[list[int]], folder: Path) -> list[dict[str, Any]]:
    """LanceDB as `Index` uses it."""
    table = connect(folder, create=True).create_table("rows", schema=schema_of({"x": DIM}, {"label": pa.int64()}))

    def fill() -> None:
        for start in range(0, len(x), CHUNK):
            part = x[start : start + CHUNK]
            ids = pa.array(np.arange(start, start + len(part)))
            flat = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), DIM)
            given = {"id": ids, "row": ids, "label": ids, "x_vector": flat, CONTENT: ids}
            columns = [given.get(field.name, pa.nulls(len(part), field.type)) for field in table.schema]
            table.add(pa.table(columns, schema=table.schema))
        table.optimize()

    filled, _ = timed(fill)
    exact = answers(lambda q: search(table, q, None), queries, truth)
    built, kept = timed(lambda: approximate.build(table, "x_vector", CONTENT, tuning, len(x)))
    near = answers(lambda q: search(table, q, kept.probes), queries, truth)
    parts = {"parts": kept.parts, "probes": kept.probes}
    return [
        {"what": "multicl exact", "rows": len(x), "rows/s": len(x) / filled, **exact},
        {"what": "multicl IVF", "rows": len(x), "rows/s": len(x) / (filled + built), **near, **parts},
    ]


def search(table: Any, query: Vectors, probes: int | None) -> list[int]:
    """Ids of the rows found, searched for as `Index.search` does."""
    found = nearest_items(table, "x", query, None, K, probes)
    return [row["id"] for row in rows_at(table, list(found), ["id", "row", "label"])]


def faiss_of(x: Vectors, queries: Vectors, tuning: Vectors, truth: list[list[int]]) -> list[dict[str, Any]]:
    """faiss, in memory."""
    import faiss

    flat = faiss.IndexFlatIP(DIM)
    filled, _ = timed(lambda: flat.add(x))
    exact = answers(lambda q: flat.search(q[None], K)[1][0].tolist(), queries, truth)
    parts = round(math.sqrt(len(x)))
    ivf = faiss.IndexIVFFlat(faiss.IndexFlatIP(DIM), DIM, parts, faiss.METRIC_INNER_PRODUCT)
    ivf.cp.min_points_per_centroid = 1  # silences a warning

    def build() -> None:
        ivf.train(x)
        ivf.add(x)
        goal = flat.search(tuning, K)[1].tolist()
        ivf.nprobe = 1
        while approximate.recall_at(ivf.search(tuning, K)[1].tolist(), goal) < WANTED and ivf.nprobe < parts:
            ivf.nprobe = min(parts, 2 * ivf.nprobe)

    built, _ = timed(build)
    near = answers(lambda q: ivf.search(q[None], K)[1][0].tolist(), queries, truth)
    return [
        {"what": "faiss exact", "rows": len(x), "rows/s": len(x) / filled, **exact},
        {"what": "faiss IVF", "rows": len(x), "rows/s": len(x) / built, **near, "parts": parts, "probes": ivf.nprobe},
    ]


def answers(ask: Callable[[Vectors], list[int]], queries: Vectors, truth: Sequence[Sequence[int]]) -> dict[str, float]:
    """Queries per second, one at a time, and recall@10."""
    for query in queries[:10]:
        ask(query)
    seconds, found = timed(lambda: [ask(query) for query in queries])
    return {"queries/s": len(queries) / seconds, "recall@10": approximate.recall_at(found, truth)}


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, and its value."""
    began = time.perf_counter()
    value = call()
    return time.perf_counter() - began, value


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the module's docstring says; print a table and the RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--embed", type=int, default=2048, help="rows to embed")
    parser.add_argument("--no-write", action="store_true", help="leave benchmarks/results as it is")
    options = parser.parse_args(argv)
    rows = embedding(options.embed)
    queries, tuning = vectors(options.queries, 1), vectors(approximate.QUERIES, 2)
    for count in options.rows:
        x = vectors(count, 3)
        truth = [np.argsort(-(x @ query))[:K].tolist() for query in queries]
        with tempfile.TemporaryDirectory() as folder:
            rows += lance(x, queries, tuning, truth, Path(folder) / "db")
        rows += faiss_of(x, queries, tuning, truth)
    finish("embed_search", rows, **({"folder": None} if options.no_write else {}), dimensions=DIM, clusters=CLUSTERS)


if __name__ == "__main__":
    main()
