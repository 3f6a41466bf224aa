"""A memory-limited cache of decoded samples that never change; those all of one shape are kept in a `Store`."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from multicl.data.slice import Skipped
from multicl.data.store import Store
from multicl.types import Sample

Found = Sample | Skipped | None
"""What a cell loads as: a sample, None for a null cell, or why it was skipped."""
UNREAD: Any = object()
"""Marks a row that is not in the cache; None would be a null cell."""


class Cache:
    """The loaded cells of each source."""

    def __init__(self, sources: Iterable[str]) -> None:
        self.found: dict[str, dict[int, Found]] = {source: {} for source in sources}
        """Source -> row number -> what its cell loaded as, for sources without a store."""
        self.stores: dict[str, Store] = {}
        self.room = 0.0
        """Bytes that the cache may take, stores included."""
        self.used = 0.0
        """Bytes that `found` takes."""

    def __len__(self) -> int:
        return sum(map(len, self.found.values()))

    def give(self, source: str, store: Store) -> None:
        """Let the store hold the source's rows from now on; rows cached here so far are dropped and loaded again."""
        self.used -= sum(map(bytes_of, self.found[source].values()))
        self.found[source].clear()
        self.stores[source] = store

    @property
    def left(self) -> float:
        """Bytes that are still free."""
        return self.room - self.used - sum(store.taken for store in self.stores.values())

    def unknown(self, source: str, numbers: Sequence[int]) -> list[int]:
        """Those of a source's rows that are not cached, without repeats."""
        if source in self.stores:
            return self.stores[source].unknown(numbers)
        kept = self.found[source]
        return list(dict.fromkeys(n for n in numbers if n not in kept))

    def add(self, source: str, number: int, found: Found) -> None:
        """Cache what a row's cell loaded as, if there is room."""
        size = bytes_of(found)
        if size <= self.left:
            self.found[source][number] = found
            self.used += size


def bytes_of(sample: Sample) -> float:
    """Bytes of memory of a decoded sample, roughly; infinite for unknown kinds, which are thus never cached."""
    size = getattr(sample, "nbytes", None)
    if size is not None:
        return float(size) + 200
    if isinstance(sample, list | tuple):
        return sys.getsizeof(sample) + sum(map(bytes_of, sample))
    if sample is None or isinstance(sample, str | bytes | int | float | Skipped):
        return float(sys.getsizeof(sample)) + 200
    return math.inf
