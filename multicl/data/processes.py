"""Loader processes: how they start, what they are sent, how their errors come back, and when they end."""

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
"""Modules that take seconds to import: the server that forks loader processes imports them once for all."""


class Guarded(torch.utils.data.Dataset[Any]):
    """Steps whose InputErrors are returned: raised in a loader process, they would arrive wrapped in a traceback.

    What is asked for may itself be an InputError, where reading a stream failed: it is returned in its turn.
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
    """How loader processes start: a fork of a process with threads may hang, and Windows has no server that forks."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    multiprocessing.set_forkserver_preload(PRELOAD)
    return "forkserver"


class Sent:
    """A file that keeps nothing of a pickle but one fact."""

    names_main = False
    """Whether the pickle names anything that the main script defines."""

    def write(self, data: Any) -> int:
        """As a file's."""
        self.names_main |= b"__main__" in bytes(data)
        return len(data)


def sent(data: Guarded) -> Sent | None:
    """What a pickle of the data tells; None: they do not pickle, and cannot be sent to another process."""
    found = Sent()
    try:
        pickle.Pickler(found).dump(data)
    except Exception:  # whatever an object's __reduce__ raises
        return None
    return found


@contextmanager
def main_unseen() -> Iterator[None]:
    """Start processes that do not import the main script; it would train anew in each of them unless it is guarded.

    They must import it only where they are sent something that it defines (`Sent.names_main`).
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
    """In a loader process: let it live exactly as long as the run's process does.

    Ctrl-C and a closed terminal signal every process of the terminal, but the run finishes its step first and needs its
    loaders until then. Where the run is killed, torch's own watchdog does not notice: it watches the parent, which is
    the server that forked the loaders and stays alive as long as they do.
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
    """The slices of a loader over `Guarded` steps.

    Raises:
        InputError: (while iterating) the first that was returned; a loader process died.
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
                "a loader process died (what it printed is above): out of memory, or because it ran the script anew, "
                "which defines an adapter and trains without `if __name__ == '__main__':`. Give --data.workers 0 (in "
                "Python: Data(workers=0)) to load without such processes"
            ) from error
        if isinstance(part, InputError):
            del found  # the loader's processes end now, and not when somebody lets go of the traceback
            raise part
        yield part
