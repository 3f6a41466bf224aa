"""SIGTERM, SIGINT (Ctrl-C) and SIGHUP (a closed terminal) ask a run to stop: it finishes its step, saves, and exits
with a code of its own.

Outside of training there is nothing to save: the current computation is abandoned, and the exit code is the same.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

EXIT_STOPPED = 75
"""The exit code of a run that was asked to stop, has saved, and can be resumed: EX_TEMPFAIL of sysexits.h."""
HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
SIGNALS = (signal.SIGTERM, signal.SIGINT, *([HANGUP] if HANGUP else []))
SAME = 1.0
"""Seconds within which a repeat counts as the same signal: launchers and `timeout` deliver one twice."""


class Stopped(SystemExit):
    """A run was asked to stop, and has saved what `resume` needs. If not caught, it ends Python with exit code 75.

    Args:
        step: steps done. reason: the signal's name. together: whether the other processes stop at the same point.
    """

    def __init__(self, step: int, reason: str, together: bool = True) -> None:
        super().__init__(EXIT_STOPPED)
        self.step, self.reason, self.together = step, reason, together

    @property
    def told(self) -> str:
        """A description for the user: which signal, and what is saved."""
        return f"{self.reason}: {f'saved at step {self.step}' if self.step else 'before the first step'}"


class Signals:
    """While entered, the first signal is recorded, and a second one ends the process at once.

    A thread listens, because Python runs no signal handler during a long backward pass. Outside the main thread, where
    no handler can be set, signals act as before. So does SIGHUP if it is ignored, as under nohup.
    In `... | tee log`, Ctrl-C ends tee as well: see `readers_may_leave`.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        """Name of the signal that asked for a stop."""
        self._asked = threading.Event()
        self._leave: list[tuple[signal.Signals, object]] = []
        self._streams = ExitStack()

    def asked(self, within: float = 0.0) -> bool:
        """Whether a stop has been asked for; waits up to `within` seconds for one."""
        return self._asked.wait(within)

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self._ear, self._mouth = socket.socketpair()
            self._mouth.setblocking(False)
            self._fd = signal.set_wakeup_fd(self._mouth.fileno(), warn_on_full_buffer=False)
            taken = [number for number in SIGNALS if number != HANGUP or not _ignored(number)]
            self._leave = [(number, signal.signal(number, _noted)) for number in taken]
            threading.Thread(target=self._listen, name="signals", daemon=True).start()
            self._streams.enter_context(readers_may_leave(self.asked))
        return self

    def __exit__(self, *_: object) -> None:
        self._streams.close()
        if self._leave:
            for number, before in self._leave:
                signal.signal(number, before)  # type: ignore[arg-type]
            signal.set_wakeup_fd(self._fd)
            self._leave = []
            self._mouth.close()  # the listener hears the end

    def _listen(self) -> None:
        first = 0.0
        with self._ear:
            while heard := self._ear.recv(1):
                if heard[0] not in SIGNALS:  # the wakeup fd also gets signals of other handlers
                    continue
                if not self._asked.is_set():
                    first, self.reason = time.monotonic(), signal.Signals(heard[0]).name
                    _outlive_terminal(heard[0])
                    self._asked.set()
                elif _repeated(heard[0], first):
                    os._exit(128 + heard[0])


@contextmanager
def interrupts() -> Iterator[None]:
    """While entered, SIGTERM and SIGHUP interrupt the main thread like Ctrl-C: by a KeyboardInterrupt with their name.

    As in `Signals`, which takes over inside it, a second signal ends the process at once, and quick repeats count as
    one. Ignored signals stay ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first: list[float] = []

    def heard(number: int, frame: FrameType | None) -> None:
        if first and _repeated(number, first[0]):
            os._exit(128 + number)
        if not first:
            first.append(time.monotonic())
            _outlive_terminal(number)
            raise KeyboardInterrupt(signal.Signals(number).name)

    taken = [number for number in SIGNALS if not _ignored(number)]
    before = [(number, signal.signal(number, heard)) for number in taken]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


@contextmanager
def readers_may_leave(asked: Callable[[float], bool]) -> Iterator[None]:
    """While entered, output to a pipe without a reader is discarded once a stop is asked for.

    Args:
        asked: whether a stop is asked for, or will be within the given seconds, because the reader may get the signal
            first. If not, a broken pipe is raised as usual.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream and _Outliving(stream, asked) for stream in before)
    try:
        yield
    finally:
        if asked(0.0):
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()  # else Python flushes at exit, fails, and changes the exit code
        sys.stdout, sys.stderr = before


class _Outliving:
    """A stream that outlives its reader."""

    def __init__(self, stream: Any, asked: Callable[[float], bool]) -> None:
        self._stream, self._asked = stream, asked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._outlive(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._outlive(self._stream.flush)

    def _outlive(self, call: Callable[..., object], *words: str) -> None:
        try:
            call(*words)
        except BrokenPipeError:
            if not self._asked(SAME):
                raise
            _to_nowhere(self._stream.fileno())


def _ignored(number: int) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN


def _repeated(number: int, first: float) -> bool:
    """Whether this is a new signal rather than a duplicate; kernel and shell both send SIGHUP, at different times."""
    return number != HANGUP and time.monotonic() - first > SAME


def _outlive_terminal(number: int) -> None:
    """After SIGHUP, discard output to a closed terminal: printing would raise, and nothing would be saved."""
    if number != HANGUP:
        return
    for fd in (1, 2):
        look = select.poll()
        look.register(fd, select.POLLOUT)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in look.poll(0)):
            _to_nowhere(fd)


def _to_nowhere(fd: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, fd)
    os.close(nowhere)


def _noted(number: int, frame: FrameType | None) -> None:
    """The Python-level handler, which does nothing; the listening thread has handled the signal."""
