"""What a run writes down as it goes: metrics.jsonl, Accelerate's trackers, and the rows that were left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from multicl.data import Skipped, Slice
from multicl.graph_loss import Outcome
from multicl.progress import Progress
from multicl.settings import Train
from multicl.types import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator


class Logbook:
    """Every rank has one; the first of them writes.

    Args:
        folder: of the run; None: no file is written.
        label: what messages call the data.
    """

    def __init__(self, folder: Path | None, train: Train, accelerator: Accelerator, label: str) -> None:
        self.folder, self.train, self.accelerator, self.label = folder, train, accelerator, label
        self.skipped: list[Skipped] = []
        """Cells of this rank that could not be used, each once."""

    def open(self, start: int, total: int) -> None:
        """Begin at a step; what a broken run wrote of later steps goes, for it will come again."""
        shown = self.accelerator.is_main_process
        self.progress = Progress(total, start, self.train.batch_size, shown)
        if self.folder and shown:
            cut_back(self.folder / "metrics.jsonl", start)
        if self.train.trackers:
            self.accelerator.init_trackers(self.folder.name if self.folder else "multicl")

    def close(self) -> None:
        """The end: what was left out is told, and trackers are closed."""
        self.progress.close()
        if self.skipped:
            print(f"{len(self.skipped)} cells could not be used and were left out, first {self.skipped[0]}", flush=True)
            if self.folder and self.accelerator.is_main_process:
                rows = [json.dumps({"row": s.row, "column": s.column, "reason": s.reason}) for s in self.skipped]
                (self.folder / "skipped.jsonl").write_text("\n".join(rows) + "\n")
        if self.train.trackers:
            self.accelerator.end_training()

    def step(self, step: int, outcome: Outcome, lr: float, norm: torch.Tensor | None, waited: float) -> None:
        """A step was taken; `waited` seconds went by for its data. Every `log_every` steps it is written down."""
        due = step % self.train.log_every == 0 or step in (1, self.progress.total)
        self.progress.advance(outcome.loss if due else None, waited)
        if not due:
            return
        row: dict[str, Any] = {"loss": outcome.loss.item(), "lr": lr}
        if not torch.isfinite(outcome.loss):
            raise InputError(
                f"the loss is {row['loss']} at step {step}: lower --train.lr ({self.train.lr}) or raise the temperature"
            )
        if norm is not None:
            row["grad_norm"] = norm.item()
        for pair, values in outcome.logged.items():
            row |= {f"{pair}/{name}": value.item() for name, value in values.items()}
        self.write(step, row | self.progress.rates())

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """A row of figures, into metrics.jsonl and to the trackers."""
        if self.accelerator.is_main_process and self.folder:
            with (self.folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({"step": step, **row}) + "\n")
        if self.train.trackers:
            self.accelerator.log(dict(row), step=step)

    def count(self, part: Slice, on_error: str) -> None:
        """Note what could not be read of a slice.

        Raises:
            InputError: there is such a cell, and `on_error` is "raise".
        """
        for bad in part.skipped:
            if on_error == "raise":
                raise InputError(f"{self.label}: {bad} (--data.on-error skip leaves such rows out)")
            if bad not in self.skipped:
                self.skipped.append(bad)
                if len(self.skipped) <= 5:
                    print(f"left out: {bad}", flush=True)


def cut_back(path: Path, step: int) -> None:
    """Keep the rows of a .jsonl file up to a step; a row that a kill cut short goes too."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if _step_of(line) <= step]
        path.write_text("".join(line + "\n" for line in lines))


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):
        return float("inf")
