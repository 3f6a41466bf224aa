"""No warnings of one thread.

`warnings.catch_warnings` changes the filters of all: where several threads are in it, those of one may stay behind.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Here(threading.local):
    """Stands where a filter has the pattern of a module's name; in a thread that is to be quiet it matches any."""

    quiet = False

    def match(self, module: str) -> bool:
        """As `re.Pattern` has it."""
        return self.quiet


_HERE = _Here()
_FILTER: Any = ("ignore", None, Warning, _HERE, 0)
_LOCK = threading.Lock()


@contextmanager
def quiet() -> Iterator[None]:
    """Warnings of this thread are ignored, those of others go where they went; not to be nested."""
    filters: Any = warnings.filters
    if not filters or filters[0] is not _FILTER:  # the first that matches decides
        with _LOCK:
            filters[:] = [_FILTER, *(other for other in filters if other is not _FILTER)]
    _HERE.quiet = True
    try:
        yield
    finally:
        _HERE.quiet = False
