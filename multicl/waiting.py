"""How far something is for which people wait: a bar, or a line now and then where nobody watches."""

from __future__ import annotations

import sys
import time
from contextvars import ContextVar
from types import TracebackType
from typing import Self

from tqdm import tqdm

from multicl.distributed import World

PATIENCE = 3.0
"""Seconds after which a bar shows how far it is."""
LINE_EVERY = 15.0
"""Seconds between lines where stderr is a file."""
_WITHIN: ContextVar[bool] = ContextVar("within", default=False)
"""Whether somebody waits already, in this thread."""


def watched() -> bool:
    """Whether a bar on stderr is seen as it grows: in a terminal or a notebook."""
    return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel.")


class Waiting:
    """Counts what is done of so much; of several ranks the first one shows it, on stderr. One within another is silent.

    Args:
        what: is counted: "files' sizes". unit: one of them: "file".
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
        """So many more are done."""
        self.done += count
        self._bar.update(count)
        now = time.perf_counter()
        if self._shown and self._bar.disable and now - self._said > LINE_EVERY:
            self._said = now
            print(f"{self.what}: {self.done:,} of {self.total:,} {self.unit}s", file=sys.stderr, flush=True)
