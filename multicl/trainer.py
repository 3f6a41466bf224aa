"""The only loop: any graph of pairs over any modalities, driven by Accelerate."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, GradientAccumulationPlugin, parse_flag_from_env

from multicl import checkpoint
from multicl.adapters import adapter_name
from multicl.chunk_size import find_chunk_size
from multicl.classes import with_classes
from multicl.data import Data, Reader, Skipped, Slice, slices, sources_of
from multicl.distributed import World
from multicl.graph_loss import Outcome
from multicl.looks import Look, looks_of
from multicl.memory import Memory
from multicl.mining import Miner
from multicl.norms import average_statistics, refuse_synced
from multicl.optim import Optim, build_optimizer, lr_factor, set_lr
from multicl.pairs import Call, Term
from multicl.progress import Progress
from multicl.rows import open_rows
from multicl.seeds import seed_everything
from multicl.settings import Momentum, Train
from multicl.step import exact_step
from multicl.targets import Target
from multicl.towers import Head, Towers
from multicl.types import Context, InputError, Modality

if TYPE_CHECKING:
    from multicl.model import Model


class Trainer:
    """Trains a graph of pairs and targets.

        Trainer({"image": Image(), "text": Text()}, [Pair("image", "text")], data="pairs.parquet").fit()

    Args:
        modalities: node -> adapter. terms: pairs and targets.
        data: a path, a hub name, a `datasets` Dataset, a DataFrame, a torch Dataset of dicts, a list of dicts, or Data.
        columns: name of a node -> column of the data, where they differ.
        run: folder for metrics, checkpoints and the model; None: nothing is written.
        resume: go on from the folder's last checkpoint, if there is one.

    Raises:
        InputError: a graph, a column or a setting that cannot work; a run folder that exists and is not resumed.
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
    ) -> None:
        self.train, self.optim, self.momentum = train or Train(), optim or Optim(), momentum
        self.run = Path(run) if run is not None else None
        self.resume, self.space = resume, space
        self.settings = data if isinstance(data, Data) else Data(columns=dict(columns or {}))
        self.rows = self.settings.open() if isinstance(data, Data) else open_rows(data, columns=columns)
        # Accelerate keeps the first precision of a process; a second Trainer, in a notebook say, may want another.
        AcceleratorState._reset_state()
        _refuse_sharding()
        self.accelerator = Accelerator(
            mixed_precision=self.train.mixed_precision,
            log_with=list(self.train.trackers) or None,
            project_dir=str(self.run) if self.run else None,
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),  # a launcher's would divide the loss
        )
        self.world = World.current()
        if self.run:  # a model that could not be saved is refused before it is trained
            for modality in modalities.values():
                adapter_name(modality)
        self._claim_folder()
        seed_everything(self.train.seed, "weights")
        terms = with_classes(terms, self.rows)
        self.towers = Towers(modalities, terms, head)
        _ = self.model  # a space that is none of theirs is refused now, not after training
        self.reader = Reader(self.rows, modalities, terms, self.train.seed)
        self.sources = sources_of(modalities)
        mined = self.run / "mined" if self.run else None
        self.miner = Miner(self.towers, self.reader, self.world, self.train.seed, mined, self.accelerator.print)
        self.total = self._total_steps()
        self.most = -(-self.train.batch_size // self.world.size) * self.miner.most
        """Rows that a rank can have of a view."""
        size = self.train.chunk_size
        self.chunk_size = None if size == "auto" else min(size or self.most, self.most)
        """Rows that the encoders see at once, the same on every rank; None: not known before the first step."""
        self.skipped: list[Skipped] = []

    @property
    def model(self) -> Model:
        """The towers as they are now, ready to embed."""
        from multicl.model import Model

        return Model(self.towers, self.space)

    def fit(self) -> Model:
        """Train to the end and return the model; with a run folder, also saved in its `model/`."""
        device = self.accelerator.device
        self.towers.to(device).train()
        optimizer = build_optimizer(self.towers, self.optim, self.train.lr)
        for encoder in self.towers.encoders.values():
            if not any(p.requires_grad for p in encoder.parameters()):
                encoder.eval()  # a frozen tower neither drops out nor moves its statistics
        sizes = None if self.rows.streaming else [len(self.rows)]
        self.memory = Memory(self.towers, self.momentum, self.world, self.accelerator.autocast, sizes, self.train.seed)
        start = self._restore(optimizer)
        wrapped, prepared = self.accelerator.prepare(self.towers, optimizer)
        if self.train.trackers:
            self.accelerator.init_trackers(self.run.name if self.run else "multicl")
        note = self.accelerator.print
        for line in (*self.reader.notes, *self.memory.notes(self.train.batch_size, self.total - start)):
            note(line)
        if self.resume and start:
            note(f"resumed at step {start} of {self.total}")
        progress = Progress(self.total, start, self.train.batch_size, shown=self.accelerator.is_main_process)
        stream = self._slices(start)
        for step in range(start, self.total):
            began = time.perf_counter()
            part = next(stream)
            waited = time.perf_counter() - began
            self._count(part)
            self.miner.refresh(step)
            part = self.miner.bring(part)
            lr = self.train.lr * lr_factor(self.optim, step, self.total)
            set_lr(optimizer, lr)
            outcome = self._step(wrapped, part, step)
            norm = self._clip()
            prepared.step()
            prepared.zero_grad()
            if not self.accelerator.optimizer_step_was_skipped:
                self.memory.follow(self.towers, (step + 1) / self.total)
            self._log(step + 1, outcome, lr, norm, waited, progress)
            every = self.train.checkpoint_every
            if self.run and every and (step + 1) % every == 0 and step + 1 < self.total:
                self._average()
                self._save(step + 1, optimizer)
        progress.close()
        self._report_skipped()
        self._average()
        if self.run:
            self._save(self.total, optimizer)
            if self.accelerator.is_main_process:
                self.model.save(self.run / "model")
        if self.train.trackers:
            self.accelerator.end_training()
        self.towers.eval()
        self.accelerator.wait_for_everyone()
        return self.model

    def _step(self, wrapped: torch.nn.Module, part: Slice, step: int) -> Outcome:
        epoch = step // self.epoch_steps
        memory, when = self.memory, (self.train.seed, epoch, step, self.world.rank)
        looks, key_looks = looks_of(part, self.towers, self.sources, *when), list[Look]()
        if memory.towers is not None:
            key_looks = looks_of(part, memory.towers, self.sources, *when, first=len(self.towers.requests))
        chunk = self._chunk(looks)

        def context(term: Term, call: Call | None) -> Context:
            now = Context(self.world, step, step / self.total)
            if call is None or isinstance(term, Target):
                return now
            return replace(now, symmetric=term.symmetric and call.both, both=call.both, equal_ids=term.equal_ids)

        no_sync = partial(self.accelerator.no_sync, wrapped)
        try:
            return exact_step(
                wrapped, self.towers, looks, part.ids_of, context, self.accelerator.backward, chunk, no_sync,
                memory, key_looks,
            )  # fmt: skip
        except torch.OutOfMemoryError as error:
            smaller = max(1, (chunk or self.most) // 2)
            raise InputError(f"out of memory at step {step + 1}: give --train.chunk-size {smaller} or less") from error

    def _chunk(self, looks: Sequence[Look]) -> int | None:
        """Rows a chunk; None where the batch is not cut."""
        if self.chunk_size is None:
            self.chunk_size = find_chunk_size(self.towers, looks, self.most, self.world)
            self.accelerator.print(f"chunk size: {self.chunk_size} of the {self.most} rows of a process fit its memory")
        if self.chunk_size >= self.most:
            return None
        refuse_synced(self.towers, self.world)
        return self.chunk_size

    def _average(self) -> None:
        """Before towers are saved: BatchNorm's statistics are their mean over ranks."""
        average_statistics(self.towers, self.world)
        if self.memory.towers is not None:
            average_statistics(self.memory.towers, self.world)

    def _clip(self) -> torch.Tensor | None:
        if self.optim.clip is None:
            return None
        norm: torch.Tensor | None = self.accelerator.clip_grad_norm_(self.towers.parameters(), self.optim.clip)
        return norm

    def _slices(self, start: int) -> Iterator[Slice]:
        pin = self.accelerator.device.type == "cuda"
        world = self.world
        return slices(self.reader, self.settings, self.train.batch_size, world.rank, world.size, start, self.total, pin)

    def _total_steps(self) -> int:
        size = self.train.batch_size
        if self.rows.streaming:
            self.epoch_steps = 1 << 62  # a stream's epochs are counted by the stream
            if self.train.steps is None:
                raise InputError("a stream has no length: give train.steps instead of epochs")
            return self.train.steps
        if size > len(self.rows):
            raise InputError(
                f"the batch ({size}) is larger than the data ({len(self.rows)} rows of {self.rows.label}): "
                f"give --train.batch-size {len(self.rows)} or less"
            )
        self.epoch_steps = len(self.rows) // size
        if self.train.steps is not None:
            return self.train.steps
        return max(1, round(self.train.epochs * self.epoch_steps))

    def _count(self, part: Slice) -> None:
        for bad in part.skipped:
            if self.settings.on_error == "raise":
                raise InputError(f"{self.rows.label}: {bad} (--data.on-error skip leaves such rows out)")
            if bad not in self.skipped:
                self.skipped.append(bad)
                if len(self.skipped) <= 5:
                    print(f"left out: {bad}", flush=True)

    def _report_skipped(self) -> None:
        if self.skipped:
            print(f"{len(self.skipped)} cells could not be used and were left out, first {self.skipped[0]}", flush=True)
            if self.run and self.accelerator.is_main_process:
                rows = [json.dumps({"row": s.row, "column": s.column, "reason": s.reason}) for s in self.skipped]
                (self.run / "skipped.jsonl").write_text("\n".join(rows) + "\n")

    def _log(
        self, step: int, outcome: Outcome, lr: float, norm: torch.Tensor | None, waited: float, progress: Progress
    ) -> None:
        due = step % self.train.log_every == 0 or step in (1, self.total)
        progress.advance(outcome.loss if due else None, waited)
        if not due:
            return
        row: dict[str, Any] = {"step": step, "loss": outcome.loss.item(), "lr": lr}
        if not torch.isfinite(outcome.loss):
            raise InputError(
                f"the loss is {row['loss']} at step {step}: lower --train.lr ({self.train.lr}) or raise the temperature"
            )
        if norm is not None:
            row["grad_norm"] = norm.item()
        for pair, values in outcome.logged.items():
            row |= {f"{pair}/{name}": value.item() for name, value in values.items()}
        row |= progress.rates()
        if self.accelerator.is_main_process and self.run:
            with (self.run / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
        if self.train.trackers:
            self.accelerator.log({k: v for k, v in row.items() if k != "step"}, step=step)

    def _claim_folder(self) -> None:
        """A run's folder is new, or resumed; never written over."""
        if self.run is None:
            return
        taken = self.run.exists() and any(self.run.iterdir())
        if taken and not self.resume:
            raise InputError(f"the run folder {self.run} exists: give another --run, or --resume auto to go on with it")
        self.accelerator.wait_for_everyone()
        self.run.mkdir(parents=True, exist_ok=True)

    def _restore(self, optimizer: torch.optim.Optimizer) -> int:
        found = checkpoint.checkpoints(self.run / "checkpoints") if self.run and self.resume else []
        step = 0
        if found:
            state = checkpoint.load_checkpoint(found[-1][1], self.towers, optimizer)
            step = int(state["step"])
            for name in ("seed", "batch_size"):  # they decide the order of the rows
                if state[name] != getattr(self.train, name):
                    raise InputError(
                        f"{found[-1][1]} was trained with train.{name} {state[name]}, not {getattr(self.train, name)}: "
                        "resume with that, or give another --run"
                    )
            if self.train.chunk_size == "auto":
                self.chunk_size = state["chunk_size"]
            if step > self.total:
                raise InputError(
                    f"{found[-1][1]} is beyond the {self.total} steps asked for: raise train.steps or epochs"
                )
            self.memory.load(self.miner.load(state["kept"]))
            if self.accelerator.scaler is not None and state.get("scaler"):
                self.accelerator.scaler.load_state_dict(state["scaler"])
        metrics = self.run / "metrics.jsonl" if self.run else None
        if (
            metrics and metrics.exists() and self.accelerator.is_main_process
        ):  # what came after the checkpoint will come again
            lines = [line for line in metrics.read_text().splitlines() if _step_of(line) <= step]
            metrics.write_text("".join(line + "\n" for line in lines))
        self.accelerator.wait_for_everyone()
        return step

    def _save(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        assert self.run is not None
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            extra = {
                "seed": self.train.seed, "batch_size": self.train.batch_size, "total": self.total,
                "chunk_size": self.chunk_size,
                "scaler": scaler.state_dict() if scaler is not None else None,
            }  # fmt: skip
            kept = self.memory.state() | self.miner.state()
            checkpoint.save_checkpoint(
                self.run / "checkpoints", step, self.towers, optimizer, extra, self.train.keep, kept
            )
        self.accelerator.wait_for_everyone()


def _refuse_sharding() -> None:
    """What cuts the towers themselves over processes has no place for the surrogate's one reduction."""
    for name in ("DEEPSPEED", "FSDP", "MEGATRON_LM"):
        if parse_flag_from_env(f"ACCELERATE_USE_{name}"):
            raise InputError(
                f"the launcher asks for {name}; multicl trains on one process or with plain data parallelism (DDP): "
                "choose multi-GPU or multi-CPU without it in `accelerate config`"
            )


def _step_of(line: str) -> float:
    """The step of a row of metrics.jsonl; a row cut short by a kill counts as after everything."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):
        return float("inf")
