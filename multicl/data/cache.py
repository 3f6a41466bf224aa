"""Decoded samples that never change, kept in memory as far as there is room: in a store where they are all alike."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from multicl.data.slice import Skipped
from multicl.data.store import Store
from multicl.types import Sample

Found = Sample | Skipped | None
"""What a cell came to: a sample, none, or why it was skipped."""
UNREAD: Any = object()
"""Marks a row that is not in the cache; None is a cell that is null."""


class Cache:
    """What each source's cells came to, source by source."""

    def __init__(self, sources: Iterable[str]) -> None:
        self.found: dict[str, dict[int, Found]] = {source: {} for source in sources}
        """Source -> row -> what it came to, where no store has it."""
        self.stores: dict[str, Store] = {}
        self.room = 0.0
        """Bytes that all of it may take, stores too."""
        self.used = 0.0
        """Bytes that `found` takes."""

    def __len__(self) -> int:
        return sum(map(len, self.found.values()))

    def give(self, source: str, store: Store) -> None:
        """From now on the store keeps the source's rows; the few that were kept here are loaded again."""
        self.used -= sum(map(bytes_of, self.found[source].values()))
        self.found[source].clear()
        self.stores[source] = store

    @property
    def left(self) -> float:
        """Bytes that may still be taken."""
        return self.room - self.used - sum(store.taken for store in self.stores.values())

    def unknown(self, source: str, numbers: Sequence[int]) -> list[int]:
        """Those of a source's rows that are not kept, each once."""
        if source in self.stores:
            return self.stores[source].unknown(numbers)
        kept = self.found[source]
        return list(dict.fromkeys(n for n in numbers if n not in kept))

    def add(self, source: str, number: int, found: Found) -> None:
        """Keep what a row came to, if there is room."""
        size = bytes_of(found)
        if size <= self.left:
            self.found[source][number] = found
            self.used += size


def bytes_of(sample: Sample) -> float:
    """Memory of a decoded sample; unknown kinds are never cached."""
    size = getattr(sample, "nbytes", None)
    if size is not None:
        return float(size) + 200
    if isinstance(sample, list | tuple):
        return sys.getsizeof(sample) + sum(map(bytes_of, sample))
    if sample is None or isinstance(sample, str | bytes | int | float | Skipped):
        return float(sys.getsizeof(sample)) + 200
    return math.inf
