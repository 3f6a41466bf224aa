"""Loader processes: how they start, what is sent to them, how their errors come back, and when they end."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from multicl.data.slice import Slice
from multicl.signals import HANGUP
from multicl.types import InputError

PRELOAD = ["torch.utils.data", "datasets"]
"""Modules that take seconds to import: the server that forks loader processes imports them once."""


class Guarded(torch.utils.data.Dataset[Any]):
    """Steps that return an InputError: raised in a loader process, it would arrive wrapped in a traceback.

    The requested item may itself be an InputError, if reading a stream failed; it is returned when its turn comes.
    """

    def __init__(self, steps: torch.utils.data.Dataset[Slice]) -> None:
        self.steps = steps

    def __getitem__(self, asked: Any) -> Slice | InputError:
        if isinstance(asked, InputError):
            return asked
        try:
            return self.steps[asked]
        except InputError as error:
            return InputError(str(error))


def start_method() -> str:
    """The start method of loader processes: forking a process with threads may hang, and Windows has no forkserver."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    multiprocessing.set_forkserver_preload(PRELOAD)
    return "forkserver"


class Sent:
    """A write-only file that discards a pickle and records one fact about it."""

    names_main = False
    """Whether the pickle refers to anything that the main script defines."""

    def write(self, data: Any) -> int:
        """Inspect and discard the bytes, as a file's `write`; returns their number."""
        self.names_main |= b"__main__" in bytes(data)
        return len(data)


def sent(data: Guarded) -> Sent | None:
    """The facts about a pickle of the data; None: they do not pickle, and cannot be sent to another process."""
    found = Sent()
    try:
        pickle.Pickler(found).dump(data)
    except Exception:  # an object's __reduce__ may raise anything
        return None
    return found


@contextmanager
def main_unseen() -> Iterator[None]:
    """Start processes that do not import the main script: without a `__main__` guard, it would train in each of them.

    Do not use this if something that the script defines is sent to them (`Sent.names_main`).
    """
    main = sys.modules["__main__"]
    spec, file = main.__spec__, main.__dict__.pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file


def begin_loader(worker: int) -> None:
    """Tie a loader process's life to that of the run's process; called in the loader process.

    Ctrl-C and a closed terminal signal every process of the terminal, but the run finishes its step first and needs its
    loaders until then. If the run is killed, torch's own watchdog does not notice: it watches the parent, which is the
    forkserver, and that stays alive as long as the loaders do.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if HANGUP:
        signal.signal(HANGUP, signal.SIG_IGN)
    run = multiprocessing.parent_process()
    assert run is not None

    def follow() -> None:
        run.join()
        os._exit(1)

    threading.Thread(target=follow, name="follow the run", daemon=True).start()


def unguarded(found: Iterator[Slice | InputError]) -> Iterator[Slice]:
    """Yield the slices of a loader over `Guarded` steps.

    Raises:
        InputError: (while iterating) a step returned one; or a loader process died.
    """
    while True:
        try:
            part = next(found)
        except StopIteration:
            return
        except RuntimeError as error:
            if "DataLoader worker" not in str(error) or "exited unexpectedly" not in str(error):
                raise
            raise InputError(
                "a loader process died (what it printed is above): it ran out of memory, or it ran the script again, "
                "which defines an adapter and trains without `if __name__ == '__main__':`. Give --data.workers 0 (in "
                "Python: Data(workers=0)) to load without such processes"
            ) from error
        if isinstance(part, InputError):
            del found  # end the loader's processes now, not when the traceback is freed
            raise part
        yield part
