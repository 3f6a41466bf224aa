"""What a run writes down as it goes: metrics.jsonl, Accelerate's trackers, and the rows that were left out."""

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
"""Figures of an evaluation that a line has; metrics.jsonl has all."""


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

    def open(self, start: int, total: int, watch: Watch, config: Mapping[str, Any]) -> None:
        """Begin at a step; what a broken run wrote of later steps goes, for it will come again.

        Args:
            watch: what is asked for warnings. config: the run's settings, for the trackers.
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
        """The end: what was left out is told, and trackers are closed."""
        self.progress.close()
        self.skipped = list(dict.fromkeys(gather_object(self.skipped)))  # of all ranks
        if self.skipped and self.accelerator.is_main_process:
            if self.folder:
                _write_skipped(self.folder / "skipped.jsonl", self.skipped)
            print(f"{len(self.skipped)} cells could not be used and were left out, first {self.skipped[0]}", flush=True)
        if self.train.trackers:
            self.accelerator.end_training()

    def due(self, step: int) -> bool:
        """Whether a step, from 1, is written down."""
        return step % self.train.log_every == 0 or step in (1, self.progress.total)

    def sampled(self, step: int) -> int:
        """Rows of each view of a step that the monitors ask to see: on the first rank, where it is written down."""
        return SAMPLE if self.accelerator.is_main_process and self.due(step) else 0

    def step(self, step: int, outcome: Outcome, lr: float, norm: torch.Tensor | None, waited: float) -> None:
        """A step was taken; `waited` seconds went by for its data. Every `log_every` steps it is written down."""
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
        """Figures measured after a step, in a line, too; the time it took is left out of the rates."""
        if figures:
            best = self.train.best
            names = sorted(figures, key=lambda name: name != best)  # that one first, others as they come
            told = ", ".join(f"{name} {figures[name]:.4f}" for name in names[:SHOWN])
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            self.progress.say(f"step {step}: {told}{more}")
        self.write(step, {f"eval/{name}": value for name, value in figures.items()})
        self.progress.rates()

    def write(self, step: int, row: Mapping[str, float], warnings: Sequence[str] = ()) -> None:
        """A row of figures, into metrics.jsonl (null where one is not finite, and warnings) and to the trackers."""
        if self.accelerator.is_main_process and self.folder:
            finite_row = {name: value if math.isfinite(value) else None for name, value in row.items()}
            told = {"warning": " ".join(warnings)} if warnings else {}
            _append(self.folder / "metrics.jsonl", {"step": step, **finite_row, **told})
        if self.train.trackers:
            self.accelerator.log(dict(row), step=step)

    def flush(self) -> None:
        """Wait until the metrics are on the disk, before a checkpoint says that their steps are done."""
        if self.folder and self.accelerator.is_main_process and (path := self.folder / "metrics.jsonl").exists():
            to_disk(path)

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
                if self.folder and self.accelerator.is_main_process:
                    _append(self.folder / "skipped.jsonl", asdict(bad))
                if len(self.skipped) <= 5:
                    print(f"left out: {bad}", flush=True)


def cut_back(path: Path, step: int) -> None:
    """Keep the rows of a .jsonl file up to a step; a row that a kill cut short goes too."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if _step_of(line) <= step]
        write_whole(path, "".join(line + "\n" for line in lines))


def _append(path: Path, row: Mapping[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _skipped(path: Path) -> list[Skipped]:
    """What an earlier part of the run left out; a line that a kill cut short is found again."""
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
