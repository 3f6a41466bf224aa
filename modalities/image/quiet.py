"""Silence the warnings of one thread.

`warnings.catch_warnings` changes the filters of all threads: with several in it at once, one's filters may stay behind.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Here(threading.local):
    """In place of a filter's pattern for module names: in a quiet thread it matches any module."""

    quiet = False

    def match(self, module: str) -> bool:
        """As `re.Pattern` has it."""
        return self.quiet


_HERE = _Here()
_FILTER: Any = ("ignore", None, Warning, _HERE, 0)
_LOCK = threading.Lock()


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore the warnings of this thread, and of no other; not to be nested."""
    filters: Any = warnings.filters
    if not filters or filters[0] is not _FILTER:  # the first that matches decides
        with _LOCK:
            filters[:] = [_FILTER, *(other for other in filters if other is not _FILTER)]
    _HERE.quiet = True
    try:
        yield
    finally:
        _HERE.quiet = False
