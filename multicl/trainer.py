"""The only training loop: any graph of pairs over any modalities, driven by Accelerate."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from multicl.adapters import adapter_name
from multicl.choices import check_kinds
from multicl.config import to_plain
from multicl.data.classes import with_classes
from multicl.data.columns import check_columns
from multicl.data.loading import Reader, open_data, slices, sources_of
from multicl.data.mixture import run_steps
from multicl.data.slice import Skipped, Slice
from multicl.distributed import World
from multicl.graph import Term, check_graph
from multicl.modes import train as set_training
from multicl.running.accelerator import accelerator_of
from multicl.running.lifecycle import Lifecycle
from multicl.running.logbook import Logbook
from multicl.running.validation import Evaluate, Validation
from multicl.running.watch import Watch
from multicl.seeds import seed_everything
from multicl.settings import Momentum, Train
from multicl.signals import Signals, Stopped
from multicl.towers import Head, Towers
from multicl.training.chunk_size import ChunkSize
from multicl.training.finite import Finite
from multicl.training.graph_loss import Outcome, contexts_at
from multicl.training.looks import Look, looks_of
from multicl.training.memory import Memory
from multicl.training.mining import Miner
from multicl.training.norms import average_statistics, set_statistics, statistics
from multicl.training.optim import Optim, build_optimizer, clip, frozen_again, lr_factor, set_lr, too_fast, warmup_steps
from multicl.training.recompute import recompute_layers
from multicl.training.step import exact_step
from multicl.training.synced import refuse_absent, synchronise
from multicl.training.unseen import STEPS, Unseen
from multicl.types import Context, InputError, Modality

if TYPE_CHECKING:
    from multicl.model import Model


class Trainer:
    """Trains a graph of pairs and targets.

        Trainer({"image": Image(), "text": Text()}, [Pair("image", "text")], data="pairs.parquet").fit()

    Args:
        modalities: node -> adapter. Frozen parts of an encoder in evaluation mode, inside a part in training mode, stay
            in evaluation mode (such as batch norms after `norm.requires_grad_(False).eval()`); a fully frozen encoder
            is put in it. `fit` leaves all in evaluation mode: choose the modes again before another `fit`.
        terms: pairs and targets.
        data: a path, a hub name, a `datasets` Dataset, a DataFrame, a torch Dataset of dicts, a list of dicts, or Data;
            or a list of several of these, of any columns, to train on in one run (`Data.weight`, `Data.batches`).
        columns: node, or another name that terms use for a column (`Pair.ids`, ...) -> column, where they differ.
        train, optim, momentum: settings; None: their defaults. head: one for all spaces, or one for each; None: Head().
        run: folder for metrics, checkpoints and the model; None: nothing is written.
        resume: continue from the folder's last intact checkpoint, if there is one.
        space: the model's default space, one of the pairs'; None: the encoders' features, the only choice for a graph
            without pairs.
        evaluate: measures the model every `train.evaluate_every` steps and returns figures by name. With several
            processes, only the main one calls it, and all of them embed what it asks the model for.
        config: the run's settings as trackers record them; None: those given here.

    Raises:
        InputError: a graph, column or setting cannot work; `evaluate` would never be called; the run folder exists and
            `resume` is False.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        terms: Sequence[Term],
        data: Any,
        *,
        columns: Mapping[str, str] | None = None,
        train: Train | None = None,
        optim: Optim | None = None,
        head: Head | Mapping[str, Head] | None = None,
        momentum: Momentum | None = None,
        run: str | Path | None = None,
        resume: bool = False,
        space: str | None = "joint",
        evaluate: Evaluate | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        check_graph(modalities, terms)
        check_kinds(train=(train, Train), optim=(optim, Optim), momentum=(momentum, Momentum))
        check_kinds(head=(None if isinstance(head, Mapping) else head, Head))
        self.train, self.optim, self.momentum = train or Train(), optim or Optim(), momentum
        self.run = Path(run) if run is not None else None
        self.space = space
        self.rows, self.settings = open_data(data, columns)
        if columns:
            check_columns(columns, modalities, terms, self.rows.names)
        self.accelerator = accelerator_of(self.train, self.run)
        self.world = World.current()
        if self.run:  # refuse a model that cannot be saved before training it
            for modality in modalities.values():
                adapter_name(modality)
        self.lifecycle = Lifecycle(self.run, resume, self.train, self.accelerator)
        self.logbook = Logbook(self.run, self.train, self.accelerator, self.rows.label)
        self.validation = Validation(evaluate, self.train, self.world)
        if self.train.best is not None and self.run is None:
            raise InputError("train.best keeps the best checkpoint, which needs a folder: give Trainer(run=...)")
        seed_everything(self.train.seed, "weights")
        terms = with_classes(terms, self.rows)
        self.towers = Towers(modalities, terms, head)
        if self.train.gradient_checkpointing:
            recompute_layers(self.towers, self.accelerator.print)
        self.synced = self.train.sync_batch_norm and self.world.size > 1
        if self.synced:
            synchronise(self.towers, self.accelerator.device.type == "cuda")
        _ = self.model  # refuses an unknown space now, not after training
        self.reader = Reader(self.rows, modalities, terms, self.train.seed)
        self.sources = sources_of(modalities)
        mined = self.run / "mined" if self.run else None
        self.miner = Miner(self.towers, self.reader, self.world, self.train.seed, mined, self.accelerator.print)
        self.total, self.epoch_steps = run_steps(self.rows, self.train)
        given = {"modalities": modalities, "terms": terms, "train": self.train, "optim": self.optim, "head": head}
        self.config = to_plain(given) if config is None else config
        most = -(-self.train.batch_size // self.world.size) * self.miner.most
        self.chunk = ChunkSize(self.train.chunk_size, most)

    @property
    def skipped(self) -> list[Skipped]:
        """Cells that could not be used so far on this rank."""
        return self.logbook.skipped

    @property
    def size(self) -> int | None:
        """Number of rows of the data; None for a stream."""
        return None if self.rows.streaming else len(self.rows)

    @property
    def model(self) -> Model:
        """The towers as they are now, ready to embed."""
        from multicl.model import Model

        return Model(self.towers, self.space)

    def fit(self) -> Model:
        """Train to the end and return the model; with a run folder, it is also saved there, in `model/`.

        Raises:
            Stopped: a signal asked for it (only with a run folder, from which `resume` can continue).
            InputError: the loss is not finite, rows or loaders fail, the disk is full, or another process trains in the
                run folder.
        """
        with self.lifecycle.alone():
            return self._fit()

    def _fit(self) -> Model:
        optimizer = self._begin()
        start = self._restore(optimizer)
        wrapped, prepared = self.accelerator.prepare(self.towers, optimizer)
        if self.accelerator.scaler is None:  # Accelerate's wrapper then only adds a package look-up per step
            prepared = optimizer
        self._trained = [p for p in self.towers.parameters() if p.requires_grad]
        watch = Watch(self.towers.pairs, warmup_steps(self.optim, self.total), self.world.size)
        for line in (
            *self.towers.notes,
            *too_fast(self.towers, self.optim, self.train.lr),
            *self.reader.notes,
            *self.memory.notes(self.train.batch_size, self.total - start),
        ):
            self.accelerator.print(line)
        unseen = Unseen(self.towers.terms, self.sources, min(STEPS, self.epoch_steps, self.total - start), self.world)
        with self.lifecycle.under_way(self.total) as signals:
            self.logbook.open(start, self.total, watch, self.config)
            stream = self._slices(start)
            part, waited = self._load(stream, signals)
            steps = range(start, start if self.validation.over else self.total)
            (stop,) = self.world.agree(bool(steps) and (part is None or signals.asked()))
            if stop:
                self._stop(start, signals)
            for step in steps:
                assert part is not None
                if told := unseen.look(part):
                    self.accelerator.print(told)
                self.miner.refresh(step)
                part = self.miner.bring(part)
                lr = self.train.lr * lr_factor(self.optim, step, self.total)
                set_lr(optimizer, lr)
                outcome = self._step(wrapped, part, step)
                wanted = self.logbook.due(step + 1) or self.train.not_finite == "skip"
                norm = clip(self.accelerator, self._trained, self.optim, wanted)
                taken = self.finite.takes(step + 1, outcome.loss, norm, part.row)
                self._move(prepared, taken, step + 1)
                self.logbook.step(step + 1, outcome, lr, norm, waited)
                part, waited = self._load(stream, signals)
                (stop,) = self.world.agree(signals.asked() or (part is None and step + 1 < self.total))
                self._settle(step + 1, optimizer, stop)
                if stop:
                    self._stop(step + 1, signals)
                if self.validation.over:
                    break
            average_statistics(self._norms, self.world)
            if self.validation.best_step is not None:
                self.lifecycle.load(self.validation.best_step, self.towers)
            if self.run and self.accelerator.is_main_process:
                self.model.save(self.run / "model")
            (stop,) = self.world.agree(signals.asked())  # since the end of the last step
            if stop:
                self._stop(self.lifecycle.step, signals)
            self.logbook.close()
        self.towers.eval()
        self.accelerator.wait_for_everyone()
        return self.model

    def _begin(self) -> torch.optim.Optimizer:
        """Move towers to the device and set their modes; make the optimiser, which is returned, and the memory."""
        set_training(self.towers.to(self.accelerator.device))
        scaled = self.accelerator.scaler is not None
        optimizer = build_optimizer(self.towers, self.optim, self.train.lr, scaled)
        for encoder in self.towers.encoders.values():
            if not any(p.requires_grad for p in encoder.parameters()):
                encoder.eval()  # no dropout and fixed statistics in a frozen tower
        sizes = None if self.rows.streaming else self.rows.sizes
        self.memory = Memory(self.towers, self.momentum, self.world, self.accelerator.autocast, sizes, self.train.seed)
        return optimizer

    def _move(self, prepared: Any, taken: bool, step: int) -> None:
        """End a step: if it is `taken`, update parameters, then momentum towers; check that steps were finite."""
        if taken:
            prepared.step()
        prepared.zero_grad()
        if taken and not self.accelerator.optimizer_step_was_skipped:
            self.memory.follow(self.towers, step / self.total)
        self.finite.remember()
        self.finite.look(now=self.logbook.due(step))

    def _stop(self, step: int, signals: Signals) -> NoReturn:
        """Raise Stopped on all ranks; `step` steps are done and saved."""
        self.logbook.close()
        raise Stopped(step, signals.reason or "another process")

    def _load(self, stream: Iterator[Slice], signals: Signals) -> tuple[Slice | None, float]:
        """(the next slice, seconds waited for it); None at the end, or if a signal to stop has ended the loaders."""
        began = time.perf_counter()
        try:
            part = next(stream, None)
        except InputError:
            if not signals.asked(within=1.0):
                raise
            part = None
        waited = time.perf_counter() - began
        if part is not None:
            self.logbook.count(part, self.settings.on_error)
        return part, waited

    def _settle(self, step: int, optimizer: torch.optim.Optimizer, stop: bool) -> None:
        """At the end of a step, evaluate and save if due."""
        measured = self.validation.due(step, self.total)
        if not (stop or measured or step == self.total or self.lifecycle.due(step)):
            return
        self.finite.look(now=True)
        norms = average_statistics(self._norms, self.world)
        if measured:
            self.logbook.evaluated(step, self.validation.measure(step, self.model))
            if told := frozen_again(self.towers, self._trained):
                self.accelerator.print(told)
        best, over = self.validation.best_step, self.validation.over
        if stop or over or step in (self.total, best) or self.lifecycle.due(step):
            self.logbook.flush()
            extra = {"total": self.total, "rows": self.size, "chunk_size": self.chunk.size}
            extra |= {"skips": self.finite.in_a_row}
            extra |= self.validation.state()
            kept = {"norms": norms, **self.memory.state(), **self.miner.state()}
            self.lifecycle.save(step, self.towers, optimizer, extra, kept, best)
        set_statistics(self._norms, norms[self.world.rank])

    def _restore(self, optimizer: torch.optim.Optimizer) -> int:
        """Restore the last checkpoint, if there is one; returns its step, or 0."""
        self._norms = torch.nn.ModuleList([self.towers, *([self.memory.towers] if self.memory.towers else [])])
        state = self.lifecycle.restore(self.towers, optimizer, self.total)
        if state:
            self.chunk.found_before(state["chunk_size"])
            for line in self.validation.restore(state):
                self.accelerator.print(line)
            self.lifecycle.best_step = self.validation.best_step
            norms = state["kept"].pop("norms")
            self.memory.load(self.miner.load(state["kept"]))
            if norms.shape == (self.world.size, len(statistics(self._norms))):
                set_statistics(self._norms, norms[self.world.rank])
            if (before := state.get("rows")) not in (None, self.size):
                self.accelerator.print(
                    f"the data have {self.size} rows now, not {before} as before: their order changes"
                )
            if self.rows.streaming:
                self.accelerator.print("a stream cannot be entered midway: it is read again up to this step")
        scaled, skips = self.accelerator.scaler is not None, state.get("skips", 0)
        self.finite = Finite(self.towers, self.memory, self.run, self.train, self.world, scaled, skips)
        return int(state.get("step", 0))

    def _step(self, wrapped: torch.nn.Module, part: Slice, step: int) -> Outcome:
        memory, when = self.memory, (self.train.seed, part.epoch, step, self.world.rank)
        looks, key_looks = looks_of(part, self.towers, self.sources, *when), list[Look]()
        if memory.towers is not None:
            key_looks = looks_of(part, memory.towers, self.sources, *when, first=len(self.towers.requests))
        chunk, found = self.chunk.of(looks, self.towers, self.world)
        if found:
            self.accelerator.print(found)
        if self.synced:
            refuse_absent([*looks, *key_looks], self.world)
        contexts = contexts_at(Context(self.world, step, step / self.total, told=self.logbook.due(step + 1)))
        no_sync = partial(self.accelerator.no_sync, wrapped)
        try:
            return exact_step(
                wrapped, self.towers, looks, part.ids_of, contexts, self.accelerator.backward, chunk, no_sync,
                memory, key_looks, self.logbook.sampled(step + 1), part.scores_of, self._trained,
            )  # fmt: skip
        except torch.OutOfMemoryError as error:
            smaller = max(1, (chunk or self.chunk.most) // 2)
            raise InputError(f"out of memory at step {step + 1}: give --train.chunk-size {smaller} or less") from error

    def _slices(self, start: int) -> Iterator[Slice]:
        device, world, size = self.accelerator.device, self.world, self.train.batch_size
        pin = device.type == "cuda"
        return slices(self.reader, self.settings, size, world.rank, world.size, start, self.total, pin, device)
