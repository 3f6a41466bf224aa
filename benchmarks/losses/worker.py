"""A separate process for one implementation of one loss at one size; it stays alive while others take their turns."""

from __future__ import annotations

import multiprocessing as mp
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple


class Cell(NamedTuple):
    """What is measured side by side: one loss at one size."""

    loss: str
    batch: int
    dim: int


class GoneError(Exception):
    """A worker cannot answer, or no longer can; the message says why."""


class Worker:
    """A fresh process that runs one implementation; `limit` is the most seconds that a call may take."""

    def __init__(self, cell: Cell, name: str, threads: int, limit: float) -> None:
        self.limit = limit
        context = mp.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, cell, name, threads), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, question: str, *args: Any, times: int = 1) -> Any:
        """The answer of the method `question` of `_Answers`, which makes up to `times` calls of the implementation.

        Raises:
            GoneError: the implementation is not installed, failed or is too slow; or the process was killed.
        """
        try:
            self._pipe.send((question, args))
            if not self._pipe.poll(self.limit * times + 60):  # a minute for Python and torch to start
                raise GoneError(f"a call takes longer than {self.limit:.0f} s")
            good, answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(5)
            raise GoneError(f"the process died (exit code {self._process.exitcode}; -9: out of memory)") from None
        if not good:
            raise GoneError(answer)
        return answer

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection, cell: Cell, name: str, threads: int) -> None:
    with suppress(OSError):  # if memory runs out, the kernel kills this process, not its parent
        Path("/proc/self/oom_score_adj").write_text("1000")
    answers: _Answers | None = None
    with suppress(EOFError, BrokenPipeError):
        while True:
            question, args = pipe.recv()
            try:
                answers = answers or _Answers(cell, name, threads)
                pipe.send((True, getattr(answers, question)(*args)))
            except ImportError as error:
                pipe.send((False, f"missing: {error}; pip install -e '.[bench]'"))
            except Exception as error:
                pipe.send((False, f"failed: {type(error).__name__}: {error}"))


class _Answers:
    def __init__(self, cell: Cell, name: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.cell, self.name = cell, name
        self.step = self._step(cell)

    def ready(self) -> None:
        """Do nothing: an answer means that Python, torch and the implementation are loaded."""

    def first(self) -> tuple[float, int | None]:
        """Seconds of a call, and extra peak bytes of the first at full size; a tiny call loads the libraries before."""
        from losses.memory import extra_peak

        self._step(Cell(self.cell.loss, 16, 8))()
        start = time.perf_counter()
        peak = extra_peak(self.step)
        seconds = time.perf_counter() - start
        return seconds if seconds > 1 else min(self.block(3)), peak

    def block(self, calls: int) -> list[float]:
        """The seconds of each of `calls` calls in a row."""
        seconds = []
        for _ in range(calls):
            start = time.perf_counter()
            self.step()
            seconds.append(time.perf_counter() - start)
        return seconds

    def save_reference(self, path: str) -> None:
        """Save the float64 loss and gradients of `losses.reference`, whatever the implementation."""
        import torch
        from safetensors.torch import save_file

        from losses.inputs import make_inputs
        from losses.reference import reference

        value, grads = reference(self.cell.loss, make_inputs(*self.cell, dtype=torch.float64))
        save_file({"value": torch.tensor(value, dtype=torch.float64), **_numbered(grads)}, path)

    def agreement(self, path: str) -> tuple[float, float]:
        """The `differences` of the loss and the gradients from those saved at `path`."""
        from safetensors.torch import load_file

        from losses.reference import differences

        right = load_file(path)
        value, grads = self.step()
        return differences(value.item(), grads, right.pop("value").item(), [right[k] for k in _numbered(grads)])

    def _step(self, cell: Cell) -> Callable[[], Any]:
        import torch

        from losses import floor
        from losses.implementations import LOSSES
        from losses.inputs import make_inputs

        x = make_inputs(*cell)
        if self.name.startswith("floor"):
            return (floor.half_walk if self.name == "floor-half" else floor.full_walk)(cell.loss, x)
        loss = LOSSES[cell.loss][self.name].make()

        def step() -> Any:
            value = loss(x)
            return value.detach(), torch.autograd.grad(value, x.learnt)

        return step


def _numbered(tensors: Any) -> dict[str, Any]:
    return {f"grad {i}": x for i, x in enumerate(tensors)}
