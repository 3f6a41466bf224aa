"""Extra peak memory of a call, from the high-water mark of the resident set, which Linux resets on demand."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def extra_peak(call: Callable[[], object]) -> int | None:
    """Bytes by which the call's peak exceeds what was resident before it; None if the kernel cannot say.

    The call's result is kept until the peak is read, so that results (gradients) count for every implementation.
    Measure a call's first run: later ones reuse memory that the allocator kept, and seem to need less.
    """
    gc.collect()
    try:
        RESET.write_text("5")  # resets the mark to what is resident now
    except OSError:
        return None
    before = _mark()
    result = call()
    extra = _mark() - before
    del result
    return extra


def available() -> int | None:
    """Bytes that can be allocated without swapping; None if the kernel does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def _mark() -> int:
    return next(int(line.split()[1]) * 1024 for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
