"""Handles a loss or gradient that is not finite: the run stops or skips the step, and reports the rows of its batch."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from multicl.distributed import World
from multicl.settings import Train
from multicl.towers import Towers
from multicl.training.memory import Memory
from multicl.types import InputError

FILE = "not-finite.jsonl"


class Finite:
    """Checks each step's loss and gradient norm. All ranks call every method, in the same order.

    If the run is to stop, losses and norms stay on the device until `look` is called, at steps whose loss is read
    anyway. So no step synchronises for its own check, and weights spoilt by a bad step are never saved.

    Args:
        towers, memory: as training begins. What a skipped step changed in them is restored: a running mean that met
            a NaN would stay NaN.
        folder: where not-finite.jsonl is written; None: nowhere.
        scaled: whether fp16's gradient scaler is in use, which itself skips steps whose gradient is not finite.
        in_a_row: steps skipped just before.
    """

    def __init__(
        self,
        towers: Towers,
        memory: Memory,
        folder: Path | None,
        train: Train,
        world: World,
        scaled: bool = False,
        in_a_row: int = 0,
    ) -> None:
        self.towers, self.memory, self.folder = towers, memory, folder
        self.train, self.world, self.scaled = train, world, scaled
        self.in_a_row = in_a_row
        """Consecutive steps skipped up to now."""
        self._unseen: list[tuple[int, Tensor, Tensor | None, Tensor]] = []
        self._buffers_before: list[Tensor] = []
        self._kept_before: dict[str, Tensor] = {}
        self.remember()

    def takes(self, step: int, loss: Tensor, norm: Tensor | None, rows: Tensor) -> bool:
        """Whether the optimiser should take this step; call it once the gradients are reduced over ranks.

        Args:
            step: from 1. norm: of the gradient, if it was computed. rows: [n] int64, this rank's.

        Raises:
            InputError: too many consecutive steps are not finite.
        """
        self._unseen.append((step, loss, None if self.scaled else norm, rows))
        if self.train.not_finite == "stop":
            return True
        bad = self._bad()
        if bad is None:
            self.in_a_row = 0
            return True
        self.in_a_row += 1
        told = self._tell(*bad)
        self._put_back()
        if self.in_a_row > self.train.not_finite_limit:
            raise InputError(f"{told}: more than {self.train.not_finite_limit} such steps in a row; {self._advice()}")
        if self.world.rank == 0:
            print(f"{told}: step skipped", flush=True)
        return self.scaled

    def look(self, now: bool) -> None:
        """Check the steps since the last check, if `now` is set or if the check is free (one process on a CPU).

        Raises:
            InputError: one of them is not finite on some rank.
        """
        free = self.world.size == 1 and self.towers.device.type == "cpu"
        if not self._unseen or not (now or free):
            return
        if bad := self._bad():
            raise InputError(f"{self._tell(*bad)}; {self._advice()}, or skip such steps with --train.not-finite skip")

    def remember(self) -> None:
        """Copy all that the next step's forward may change; call it at the end of a step, after `Memory.follow`.

        Of the momentum towers only the buffers are copied, which an encoder may update in its forward pass; their
        parameters change only in `follow`.
        """
        if self.train.not_finite == "skip":
            kept = {name: t for name, t in self.memory.state().items() if not name.startswith("momentum:")}
            self._kept_before = {name: t.detach().clone() for name, t in kept.items()}
            self._buffers_before = [buffer.detach().clone() for buffer in self._buffers()]

    def _put_back(self) -> None:
        for buffer, before in zip(self._buffers(), self._buffers_before, strict=True):
            buffer.copy_(before)
        self.memory.load({**self.memory.state(), **self._kept_before})

    def _buffers(self) -> list[Tensor]:
        modules = (self.towers, self.memory.towers)
        return [buffer for module in modules if module is not None for buffer in module.buffers()]

    def _bad(self) -> tuple[int, float, Tensor] | None:
        """Check all pending steps: (step, loss, this rank's rows) of the first that is not finite on some rank."""
        pairs = [torch.stack([loss, loss if norm is None else norm]) for _, loss, norm, _ in self._unseen]
        flags = torch.stack(pairs).isfinite().all(1).logical_not().tolist()
        found = None
        for bad, (step, loss, _, rows) in zip(self.world.agree(*flags), self._unseen, strict=True):
            if bad and found is None:
                found = step, loss.item(), rows
        self._unseen.clear()
        return found

    def _tell(self, step: int, loss: float, rows: Tensor) -> str:
        """A sentence for the user; also appends a line with the rows of all ranks to the file."""
        every = self.world.gather(rows.to(self.towers.device)).tolist()
        where = f"rows {every}" if len(every) <= 8 else f"rows {str(every[:8])[:-1]}, ...]"
        if self.folder is not None:
            where = f"its rows are in {self.folder / FILE}"
            if self.world.rank == 0:
                with (self.folder / FILE).open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"step": step, "loss": str(loss), "rows": every}) + "\n")
        what = f"the loss is {loss}" if loss - loss != 0 else "the gradient is not finite"
        return f"{what} at step {step} ({where})"

    def _advice(self) -> str:
        return f"lower --train.lr ({self.train.lr}), raise the temperature, or look at those rows"
