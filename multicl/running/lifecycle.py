"""A run's folder from first step to last: claiming, saving, restoring, and status.json, which holds the run's state.

    {"state": "running", "step": 500, "total": 1000, "reason": null, "best_step": 400, "seconds": 81.3}

`state` is running, stopped (by a signal), finished (for a recipe: its figures exist as well), or failed; `reason` says
why. `step` is that of the last checkpoint, from which --resume auto continues; metrics.jsonl may be further. `seconds`
is the time over all parts of an interrupted and resumed run, as far as this file recorded it. A run that was killed
still says "running".
"""

from __future__ import annotations

import errno
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from multicl.distributed import of_another
from multicl.files import FULL, alone, write_whole, writing
from multicl.running.checkpoint import Damaged, checkpoints, load_checkpoint, load_weights, save_checkpoint, sweep
from multicl.signals import Signals, Stopped, readers_may_leave
from multicl.types import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor, nn

    from multicl.settings import Train

STATUS = "status.json"


class Lifecycle:
    """Manages the folder of a run, if it has one.

    Args:
        folder: of the run, created if missing; None: nothing is saved.
        resume: continue from the folder's last intact checkpoint, if there is one.

    Raises:
        InputError: the folder is not empty and `resume` is False, or it cannot be created.
    """

    def __init__(self, folder: Path | None, resume: bool, train: Train, accelerator: Accelerator) -> None:
        self.folder, self.resume, self.train, self.accelerator = folder, resume, train, accelerator
        self.signals = Signals()
        self.figures_follow = False
        """Whether an evaluation must follow training before the run counts as finished: see `measuring`."""
        self.step = 0
        self.best_step: int | None = None
        self._began, self._before = time.perf_counter(), 0.0
        if folder is None:
            return
        with writing(folder, "or give another --run"):
            taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
            if taken and not resume:
                raise InputError(
                    f"the run folder {folder} exists: give another --run, or --resume auto (in Python resume=True) to "
                    "continue it"
                )
            accelerator.wait_for_everyone()
            folder.mkdir(parents=True, exist_ok=True)
            with self.alone():
                pass  # raises now rather than after the untrained model is measured

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within it, no other run can train in the folder.

        Raises:
            InputError: another run trains there; raised on the main process, whose launcher ends the others.
        """
        if self.folder is None or not self.accelerator.is_main_process:
            yield
            return
        with alone(self.folder):
            yield

    @property
    def seconds(self) -> float:
        """Time that the run has taken, including its parts before it was resumed."""
        return self._before + time.perf_counter() - self._began

    @contextmanager
    def under_way(self, total: int) -> Iterator[Signals]:
        """Wraps training: status.json says "running", and at the end how it ended; signals ask the run to stop.

        Without a folder there is nothing to save, and signals act as usual.

        Raises:
            InputError: the disk is full or not writable, or the folder has vanished.
        """
        if self.folder is None:
            yield self.signals
            return
        try:
            with writing(self.folder):
                self._tell("running", total)
            with self.signals:
                yield self.signals
            with writing(self.folder):
                self._tell("running" if self.figures_follow else "finished", total)
        except Stopped as stopped:
            with suppress(OSError):  # the checkpoint is saved, and that is what counts
                self._tell("stopped", total, stopped.reason)
            if not self.figures_follow and self.accelerator.is_main_process:  # else the recipe's launcher says it
                with readers_may_leave(lambda within: True):
                    how = f"Trainer(..., run={str(self.folder)!r}, resume=True)"
                    print(f"\n{stopped.told}; to continue: {how}", file=sys.stderr, flush=True)
            raise
        except BaseException as error:
            with suppress(OSError):
                self._tell("failed", total, _reason(error))
            if isinstance(error, OSError) and self._own(error):
                with writing(self.folder):
                    raise
            raise

    @contextmanager
    def measuring(self, total: int) -> Iterator[None]:
        """Wraps the last evaluation, after which the run is finished; if it is killed here, it still says "running".

        Raises:
            InputError: as in `under_way`.
        """
        try:
            yield
        except Exception as error:
            if self.folder is not None:
                with suppress(OSError):
                    self._tell("failed", total, _reason(error))
            raise
        if self.folder is not None:
            with writing(self.folder):
                self._tell("finished", total)

    def measured_again(self) -> None:
        """Mark a run that has its figures as finished, in case it was killed before status.json said so."""
        assert self.folder is not None
        status = read_status(self.folder)
        if status and status.get("state") != "finished":
            with writing(self.folder):
                self._write({**status, "state": "finished", "reason": None})

    def _own(self, error: OSError) -> bool:
        """Whether the error comes from writing the run's files, not from reading others. A failed write has no
        filename."""
        assert self.folder is not None
        named = isinstance(error.filename, str | Path) and Path(error.filename).is_relative_to(self.folder)
        return named or error.errno in (*FULL, errno.EROFS, errno.EFBIG)

    def interrupted(self, total: int, reason: str) -> Stopped:
        """The `Stopped` to raise for a signal before or after training; nothing needs saving but status.json."""
        assert self.folder is not None
        known = {"step": 0, "total": total, "best_step": None, "seconds": 0.0, **read_status(self.folder)}
        with suppress(OSError):
            self._write({**known, "state": "stopped", "reason": reason})
        return Stopped(known["step"], reason, together=False)

    def due(self, step: int) -> bool:
        """Whether to save a checkpoint after this step, counted from 1."""
        return bool(self.train.checkpoint_every) and step % self.train.checkpoint_every == 0

    def save(
        self,
        step: int,
        towers: nn.Module,
        optimizer: torch.optim.Optimizer,
        extra: Mapping[str, Any],
        kept: Mapping[str, Tensor] | None = None,
        best: int | None = None,
    ) -> None:
        """Save a checkpoint after `step` steps; all ranks call it, the main process writes.

        Args:
            extra: scalars to save; they include "total". kept: further tensors. best: a step whose checkpoint stays.
        """
        if self.folder and self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            state = {
                "seed": self.train.seed, "batch_size": self.train.batch_size, **self._place(),
                "scaler": scaler.state_dict() if scaler is not None else None, **extra,
            }  # fmt: skip
            save_checkpoint(self.folder / "checkpoints", step, towers, optimizer, state, self.train.keep, kept, best)
        self.step, self.best_step = step, best
        if self.folder:
            self._tell("running", extra["total"])
        self.accelerator.wait_for_everyone()

    def restore(self, towers: nn.Module, optimizer: torch.optim.Optimizer, total: int) -> dict[str, Any]:
        """Load the last intact checkpoint into towers and optimiser; damaged ones are named and skipped.

        Returns:
            What was saved with it: "step", the scalars of `extra`, and "kept"; empty if there is no checkpoint.

        Raises:
            InputError: it has another seed, batch size, architecture or optimiser, or is beyond `total`; or there are
                checkpoints, but none is intact.
        """
        if self.folder is None or not self.resume:
            return {}
        folder = self.folder / "checkpoints"
        if self.accelerator.is_main_process:  # here, because a run past its last step does not save again
            sweep(folder)
        state: dict[str, Any] = {}
        for _, path in reversed(checkpoints(folder)):
            try:
                state = load_checkpoint(path, towers, optimizer)
                break
            except Damaged as error:
                self._say(f"skipped: {error}")
        if not state:
            if any(folder.glob("step-*")):
                raise InputError(f"no checkpoint in {folder} can be read: remove that folder to start over")
            return {}
        for name in ("seed", "batch_size"):  # they decide the order of the rows
            if state[name] != getattr(self.train, name):
                raise InputError(
                    f"{path} was trained with train.{name} {state[name]}, not {getattr(self.train, name)}: "
                    "resume with that, or give another --run"
                )
        if state["step"] > total:
            raise InputError(f"{path} is beyond the {total} steps asked for: raise train.steps or epochs")
        if self.accelerator.scaler is not None and state.get("scaler"):
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.best_step = state["step"], state.get("best_step")
        self._before = float(read_status(self.folder).get("seconds", 0.0))
        self._say(f"resumed at step {self.step} of {total}")
        for name, here in self._place().items():
            if state.get(name) != here:
                self._say(
                    f"resumed with {name} {here}, not {state.get(name)} as before: from here on losses are not bit for "
                    "bit those of an uninterrupted run"
                )
        return state

    def load(self, step: int, towers: nn.Module) -> None:
        """Load the weights of one checkpoint into the towers.

        Raises:
            InputError: it cannot be read.
        """
        assert self.folder is not None
        load_weights(self.folder / "checkpoints" / f"step-{step}", towers)

    def _place(self) -> dict[str, Any]:
        """What can change the last bits of a sum or, for `processes`, the numbers that dropout draws."""
        return {
            "processes": self.accelerator.num_processes,
            "threads": torch.get_num_threads(),
            "device": self.accelerator.device.type,
        }

    def _tell(self, state: str, total: int, reason: str | None = None) -> None:
        status = {
            "state": state, "step": self.step, "total": total, "reason": reason, "best_step": self.best_step,
            "seconds": round(self.seconds, 1),
        }  # fmt: skip
        self._write(status)

    def _write(self, status: Mapping[str, Any]) -> None:
        if self.accelerator.is_main_process:
            assert self.folder is not None
            write_whole(self.folder / STATUS, json.dumps(status) + "\n", sync=False)

    def _say(self, line: str) -> None:
        if self.accelerator.is_main_process:
            print(line, flush=True)


def _reason(error: BaseException) -> str:
    told = str(error) or type(error).__name__
    return f"another process failed: its output says why (here: {told})" if of_another(error) else told


def read_status(folder: Path) -> dict[str, Any]:
    """The contents of status.json; empty if it is missing or unreadable."""
    try:
        status = json.loads((folder / STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}
