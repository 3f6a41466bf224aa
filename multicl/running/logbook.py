"""What a run logs as it goes: metrics.jsonl, Accelerate's trackers, and the cells that were left out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.utils import gather_object

from multicl.data.slice import Skipped, Slice
from multicl.files import to_disk, write_whole
from multicl.running.progress import Progress
from multicl.running.trackers import start_trackers
from multicl.running.watch import Watch
from multicl.settings import Train
from multicl.training import finite
from multicl.training.graph_loss import Outcome
from multicl.training.monitors import SAMPLE, figures_of
from multicl.types import InputError

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

SHOWN = 6
"""Number of an evaluation's figures shown on the terminal; metrics.jsonl has all of them."""


class Logbook:
    """The log of a run. Every rank has one; only the main process writes.

    Args:
        folder: of the run; None: no file is written.
        label: name of the data in messages.
    """

    def __init__(self, folder: Path | None, train: Train, accelerator: Accelerator, label: str) -> None:
        self.folder, self.train, self.accelerator, self.label = folder, train, accelerator, label
        self.skipped: list[Skipped] = []
        """Distinct cells that could not be used on this rank."""

    def open(self, start: int, total: int, watch: Watch, config: Mapping[str, Any]) -> None:
        """Begin at step `start`; what an interrupted run logged of later steps is removed, as they are taken again.

        Args:
            watch: gives warnings. config: the run's settings, for the trackers.
        """
        self.watch = watch
        self.progress = Progress(total, start, self.train.batch_size, shown=self.accelerator.is_main_process)
        if self.folder and self.accelerator.is_main_process:
            for name in ("metrics.jsonl", finite.FILE):
                cut_back(self.folder / name, start)
            self.skipped = _skipped(self.folder / "skipped.jsonl")
        if self.train.trackers:
            start_trackers(self.accelerator, self.folder, config, start)

    def close(self) -> None:
        """Report the cells that were left out, and close the trackers; all ranks call it."""
        self.progress.close()
        self.skipped = list(dict.fromkeys(gather_object(self.skipped)))  # of all ranks
        if self.skipped and self.accelerator.is_main_process:
            if self.folder:
                _write_skipped(self.folder / "skipped.jsonl", self.skipped)
            print(f"{len(self.skipped)} unusable cells were left out, the first: {self.skipped[0]}", flush=True)
        if self.train.trackers:
            self.accelerator.end_training()

    def due(self, step: int) -> bool:
        """Whether to log a step, counted from 1."""
        return step % self.train.log_every == 0 or step in (1, self.progress.total)

    def sampled(self, step: int) -> int:
        """Rows to sample from each view for the monitors: `SAMPLE` on rank 0 if the step is logged, else 0."""
        return SAMPLE if self.accelerator.is_main_process and self.due(step) else 0

    def step(self, step: int, outcome: Outcome, lr: float, norm: torch.Tensor | None, waited: float) -> None:
        """Count a step, and log it if it is `due`; `waited`: seconds spent waiting for its data."""
        due = self.due(step)
        self.progress.advance(outcome.loss if due else None, waited)
        if not due:
            return
        row: dict[str, Any] = {"loss": outcome.loss.item(), "lr": lr}
        if norm is not None:
            row["grad_norm"] = norm.item()
        for pair, values in outcome.logged.items():
            row |= {f"{pair}/{name}": value.item() for name, value in values.items()}
        seen = figures_of(self.watch.terms, outcome.compared)
        row |= seen.flat() | self.progress.rates()
        warnings = self.watch.look(step, row, seen)
        for words in warnings:
            self.progress.say(f"warning, step {step}: {words}")
        self.write(step, row, warnings)

    def evaluated(self, step: int, figures: Mapping[str, float]) -> None:
        """Show and log figures measured after a step; the time that they took does not count in the rates."""
        if figures:
            best = self.train.best
            names = sorted(figures, key=lambda name: name != best)  # `best` first, the others in their own order
            told = ", ".join(f"{name} {figures[name]:.4f}" for name in names[:SHOWN])
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            self.progress.say(f"step {step}: {told}{more}")
        self.write(step, {f"eval/{name}": value for name, value in figures.items()})
        self.progress.rates()

    def write(self, step: int, row: Mapping[str, float], warnings: Sequence[str] = ()) -> None:
        """Write a row of figures, with warnings, to metrics.jsonl (null if not finite), and to the trackers."""
        if self.accelerator.is_main_process and self.folder:
            finite_row = {name: value if math.isfinite(value) else None for name, value in row.items()}
            told = {"warning": " ".join(warnings)} if warnings else {}
            _append(self.folder / "metrics.jsonl", {"step": step, **finite_row, **told})
        if self.train.trackers:
            self.accelerator.log(dict(row), step=step)

    def flush(self) -> None:
        """Wait until the metrics are on disk; call it before a checkpoint declares their steps done."""
        if self.folder and self.accelerator.is_main_process and (path := self.folder / "metrics.jsonl").exists():
            to_disk(path)

    def count(self, part: Slice, on_error: str) -> None:
        """Record the cells of a slice that could not be read.

        Raises:
            InputError: there is one, and `on_error` is "raise".
        """
        for bad in part.skipped:
            if on_error == "raise":
                raise InputError(f"{self.label}: {bad} (--data.on-error skip leaves such rows out)")
            if bad not in self.skipped:
                self.skipped.append(bad)
                if self.folder and self.accelerator.is_main_process:
                    _append(self.folder / "skipped.jsonl", asdict(bad))
                if len(self.skipped) <= 5:
                    print(f"left out: {bad}", flush=True)


def cut_back(path: Path, step: int) -> None:
    """Keep only the rows of a .jsonl file up to a step; a row that a kill cut short is removed too."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if _step_of(line) <= step]
        write_whole(path, "".join(line + "\n" for line in lines))


def _append(path: Path, row: Mapping[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _skipped(path: Path) -> list[Skipped]:
    """The cells that an earlier part of the run left out; one whose line a kill cut short will be found again."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with suppress(ValueError, TypeError):
            found.append(Skipped(**json.loads(line)))
    if found:
        _write_skipped(path, found)
    return found


def _write_skipped(path: Path, found: Iterable[Skipped]) -> None:
    write_whole(path, "".join(json.dumps(asdict(bad)) + "\n" for bad in found))


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):
        return float("inf")
