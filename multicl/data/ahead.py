"""Prefetching with threads: decoders of pictures and sounds release Python's global lock."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from statistics import median
from typing import Any, TypeVar

import torch

from multicl.types import BadSample, Modality, Sample

SLOW = 2e-4
"""Seconds per item above which threads help."""
MOST = 8
"""Threads at most; fewer than these already keep a GPU busy."""

T = TypeVar("T")
R = TypeVar("R")


def ahead(work: Callable[[T], R], items: Iterable[T], most: int) -> Generator[R]:
    """Yield work(item) for every item, in order; use threads if there are spare cores and the first items were slow.

    An exception is raised when its item's turn comes. Threads end with the iterator, even if it is closed early.

    Args:
        most: how many items may be submitted or done ahead of the consumer.
    """
    items = iter(items)
    threads = min(MOST, cores())
    took = []
    for item in islice(items, 8):
        began = time.perf_counter()
        done = work(item)
        took.append(time.perf_counter() - began)
        yield done
    if threads < 2 or len(took) < 8 or median(took) < SLOW:  # median: the first item also loads libraries
        yield from map(work, items)
        return
    waiting: deque[Future[R]] = deque()
    mode = torch.is_grad_enabled()  # grad mode is per thread
    with ThreadPoolExecutor(threads, "ahead", torch.set_grad_enabled, (mode,)) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def loaded(modality: Modality, cells: Iterable[Any], most: int) -> Generator[Sample | BadSample]:
    """Yield each cell as evaluation loads it, prefetched by `ahead`; a BadSample stands for one that cannot be read."""
    return ahead(partial(_loaded, modality), cells, most)


def _loaded(modality: Modality, cell: Any) -> Sample | BadSample:
    try:
        return modality.load(cell, None)
    except BadSample as error:
        return error


def cores() -> int:
    """Cores for this process: those it may run on, divided by the number of ranks on this machine; at least 1."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, own // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
