"""Silence the warnings of one thread.

`warnings.catch_warnings` changes the filters of all threads: if several use it at once, one's filters may stay behind.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Here(threading.local):
    """Stands in for a filter's pattern of module names: it matches any module in a quiet thread, else none."""

    quiet = False

    def match(self, module: str) -> bool:
        """Like `re.Pattern.match`."""
        return self.quiet


_HERE = _Here()
_FILTER: Any = ("ignore", None, Warning, _HERE, 0)
_LOCK = threading.Lock()


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore the warnings of this thread, and of no other; not to be nested."""
    filters: Any = warnings.filters
    if not filters or filters[0] is not _FILTER:  # the first filter that matches decides
        with _LOCK:
            filters[:] = [_FILTER, *(other for other in filters if other is not _FILTER)]
    _HERE.quiet = True
    try:
        yield
    finally:
        _HERE.quiet = False
