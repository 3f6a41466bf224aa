"""Work that threads do ahead of where it is wanted: decoders of pictures and sounds let go of Python's lock."""

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
"""Seconds an item, above which threads help."""
MOST = 8
"""Threads; one stream of kernels is fed by fewer."""

T = TypeVar("T")
R = TypeVar("R")


def ahead(work: Callable[[T], R], items: Iterable[T], most: int) -> Generator[R]:
    """work(item) of every item, in order: by threads where there are cores for them and the first items were slow.

    What an item raises, it raises in its turn. Threads end with the iterator, also where it is closed before its end.

    Args:
        most: items that are done ahead, and wait.
    """
    items = iter(items)
    threads = min(MOST, cores())
    took = []
    for item in islice(items, 8):
        began = time.perf_counter()
        done = work(item)
        took.append(time.perf_counter() - began)
        yield done
    if threads < 2 or len(took) < 8 or median(took) < SLOW:  # the first alone loads libraries and tokenizers
        yield from map(work, items)
        return
    waiting: deque[Future[R]] = deque()
    mode = torch.is_grad_enabled()  # which a thread has for itself
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
    """Each cell as evaluation reads it, by `ahead`; what is wrong with one stands in its place."""
    return ahead(partial(_loaded, modality), cells, most)


def _loaded(modality: Modality, cell: Any) -> Sample | BadSample:
    try:
        return modality.load(cell, None)
    except BadSample as error:
        return error


def cores() -> int:
    """Cores for this process: those that it may use, shared with the other ranks of this machine; at least 1."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, own // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
