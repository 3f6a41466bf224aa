"""kNN and retrieval beside scikit-learn, torchmetrics and plain PyTorch: equal figures, in what time and memory?

    python benchmarks/evaluation.py [--rows 20000]

Synthetic vectors of 128 dimensions around 10 centres: `--rows` to search in, and a quarter as many queries; for
retrieval each query has one correct item. Each contender runs in a process of its own; memory is how far its peak
rises above its inputs. torchmetrics takes every (query, item) as a row of its own, so it gets only some of the queries.
Contenders that are not installed are named and left out.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from common import RESULTS, finish
from torch import Tensor

from multicl.evaluation import knn_accuracy, retrieval

WIDTH, CLASSES, K = 128, 10, 200
FEW = 50
"""Number of queries for torchmetrics."""
Given = tuple[Tensor, Tensor, Tensor, Tensor]
"""Vectors and labels to search in, then vectors and labels of queries; all unit vectors."""


def vectors(rows: int) -> Given:
    """Inputs, the same every time."""
    dice = torch.Generator().manual_seed(0)
    centres = torch.randn(CLASSES, WIDTH, generator=dice)
    y, truth = torch.arange(rows) % CLASSES, torch.arange(rows // 4) % CLASSES
    x = centres[y] + 4 * torch.randn(rows, WIDTH, generator=dice)
    q = centres[truth] + 4 * torch.randn(rows // 4, WIDTH, generator=dice)
    return torch.nn.functional.normalize(x, dim=1), y, torch.nn.functional.normalize(q, dim=1), truth


def pairs(rows: int) -> tuple[Tensor, Tensor]:
    """Queries and items; item i is the correct one for query i."""
    x, _, q, _ = vectors(rows)
    noise = torch.randn(q.shape, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.normalize(x[: len(q)] + 0.25 * noise, dim=1), x


def knn_ours(rows: int) -> float:
    """multicl's kNN, in tiles."""
    x, y, q, truth = vectors(rows)
    return float(knn_accuracy(x, y, q, truth, k=K))


def knn_plain(rows: int) -> float:
    """The whole matrix at once, as scripts usually do."""
    x, y, q, truth = vectors(rows)
    cos, near = (q @ x.T).topk(K)
    votes = torch.zeros(len(q), CLASSES).scatter_add_(1, y[near], (cos / 0.1).exp())
    return float((votes.argmax(1) == truth).double().mean())


def knn_sklearn(rows: int) -> float:
    """KNeighborsClassifier, brute force over cosine distances."""
    import numpy as np
    from sklearn.neighbors import KNeighborsClassifier

    x, y, q, truth = (t.numpy() for t in vectors(rows))
    weights: Callable[[Any], Any] = lambda distances: np.exp((1 - distances) / 0.1)  # noqa: E731
    peer = KNeighborsClassifier(K, metric="cosine", algorithm="brute", weights=weights).fit(x, y)
    return float(peer.score(q, truth))


def retrieval_ours(rows: int) -> float:
    """multicl's recall@10 (nDCG, MRR and median rank come with it)."""
    q, x = pairs(rows)
    return float(retrieval(q, x, range(len(q)), range(len(x)), ks=(10,))["recall@10"])


def retrieval_plain(rows: int) -> float:
    """The whole matrix at once."""
    q, x = pairs(rows)
    near = (q @ x.T).topk(10).indices
    return float((near == torch.arange(len(q))[:, None]).any(1).double().mean())


def retrieval_torchmetrics(rows: int) -> float:
    """RetrievalHitRate over FEW queries."""
    from torchmetrics.retrieval import RetrievalHitRate

    q, x = pairs(rows)
    cos = q[:FEW] @ x.T
    true = torch.arange(FEW)[:, None] == torch.arange(len(x))
    return float(RetrievalHitRate(top_k=10)(cos.flatten(), true.flatten(), torch.arange(FEW).repeat_interleave(len(x))))


def retrieval_ours_few(rows: int) -> float:
    """multicl's recall@10 over the same FEW queries."""
    q, x = pairs(rows)
    return float(retrieval(q[:FEW], x, range(FEW), range(len(x)), ks=(10,))["recall@10"])


CONTENDERS: dict[tuple[str, str], Callable[[int], float]] = {
    ("kNN", "multicl"): knn_ours, ("kNN", "plain PyTorch"): knn_plain, ("kNN", "scikit-learn"): knn_sklearn,
    ("recall@10", "multicl"): retrieval_ours, ("recall@10", "plain PyTorch"): retrieval_plain,
    (f"recall@10, {FEW} queries", "multicl"): retrieval_ours_few,
    (f"recall@10, {FEW} queries", "torchmetrics"): retrieval_torchmetrics,
}  # fmt: skip


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(run: Callable[[int], float], rows: int, out: Any) -> None:
    """Measure a contender in this process: a small run to warm up, then the inputs, then figure, time and memory."""
    try:
        run(2000)
        made = pairs(rows), vectors(rows)
        del made
        before, began = _peak(), time.perf_counter()
        vectors(rows)
        inputs, began = time.perf_counter() - began, time.perf_counter()
        value = run(rows)
        out.put((value, time.perf_counter() - began - inputs, _peak() - before))
    except ImportError as error:
        out.put(str(error))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, action="append", help="default: 10000, 20000 and 40000")
    options = parser.parse_args()
    context, found = multiprocessing.get_context("spawn"), []
    for rows in options.rows or [10_000, 20_000, 40_000]:
        for (figure, who), run in CONTENDERS.items():
            queue = context.Queue()
            process = context.Process(target=measure, args=(run, rows, queue))
            process.start()
            got = queue.get(timeout=200)
            process.join()
            if isinstance(got, str):
                print(f"left out: {who} ({got})", file=sys.stderr)
                continue
            value, seconds, memory = got
            found.append({
                "figure": figure, "who": who, "rows": rows, "queries": FEW if "queries" in figure else rows // 4,
                "value": round(value, 6), "seconds": round(seconds, 3), "extra MB": round(memory, 1),
            })  # fmt: skip
    finish("evaluation", found, RESULTS if options.rows is None else None, k=K, width=WIDTH)
