"""Shows the progress of slow work: a bar, or without a terminal a line from time to time."""

from __future__ import annotations

import sys
import time
from contextvars import ContextVar
from types import TracebackType
from typing import Self

from tqdm import tqdm

from multicl.distributed import World

PATIENCE = 3.0
"""Seconds after which the bar appears."""
LINE_EVERY = 15.0
"""Seconds between lines if stderr is not a terminal or notebook."""
_WITHIN: ContextVar[bool] = ContextVar("within", default=False)
"""Whether an outer `Waiting` is active in this thread."""


def watched() -> bool:
    """Whether stderr is a terminal or a notebook, so that someone sees a bar move."""
    return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel.")


class Waiting:
    """Counts finished items out of `total`, and shows them on stderr of rank 0; nested inside another, it is silent.

    Args:
        what: what is counted, such as "files' sizes". unit: name of one item, such as "file".
    """

    def __init__(self, total: int, what: str, unit: str) -> None:
        self.total, self.what, self.unit, self.done = total, what, unit, 0
        self._shown = World.current().rank == 0 and not _WITHIN.get()
        hidden = not (self._shown and watched())
        self._bar = tqdm(total=total, desc=what, unit=unit, leave=False, delay=PATIENCE, disable=hidden)
        self._said = time.perf_counter()

    def __enter__(self) -> Self:
        self._before = _WITHIN.set(True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _WITHIN.reset(self._before)
        self._bar.close()

    def update(self, count: int) -> None:
        """Count `count` more items as done."""
        self.done += count
        self._bar.update(count)
        now = time.perf_counter()
        if self._shown and self._bar.disable and now - self._said > LINE_EVERY:
            self._said = now
            print(f"{self.what}: {self.done:,} of {self.total:,} {self.unit}s", file=sys.stderr, flush=True)
