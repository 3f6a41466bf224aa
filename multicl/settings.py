"""Settings of a run's training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from multicl.choices import check_settings
from multicl.types import InputError


@dataclass(frozen=True, kw_only=True)
class Momentum:
    """How slowly momentum towers follow the trained ones, if a pair has `keys="momentum"`."""

    rate: float = 0.999
    """Share of their own weights that momentum towers keep at each step, in [0, 1]; MoCo's 0.999."""
    schedule: Literal["constant", "cosine"] = "constant"
    """"cosine": rises from `rate` to 1 over the run (BYOL, MoCo v3)."""

    def __post_init__(self) -> None:
        check_settings(self, "momentum.")
        if not 0 <= self.rate <= 1:
            raise InputError(f"momentum.rate must be in [0, 1], got {self.rate}")

    def at(self, progress: float) -> float:
        """The rate when this fraction of the run is done, in [0, 1]."""
        if self.schedule == "constant":
            return self.rate
        return 1 - (1 - self.rate) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True, kw_only=True)
class Mine:
    """Hard negatives from all rows, found by searching them with the current weights (ANCE, arXiv:2007.00808).

    A row's candidates are all rows with another id. Those that are too similar are left out first, because most
    unlabelled positives are among them.
    """

    negatives: int = 1
    """Number of mined negatives per row."""
    every: int = 500
    """Steps between two searches."""
    start: int = 0
    """Steps before the first search; until then there are no mined negatives."""
    absolute_margin: float | None = None
    """Leave out candidates whose similarity exceeds the positive's minus this."""
    relative_margin: float | None = None
    """Leave out candidates whose similarity exceeds the positive's minus this share of it; 0.05 in NV-Retriever
    (arXiv:2407.15831)."""
    max_similarity: float | None = None
    """Leave out candidates whose similarity exceeds this, whatever the positive's is."""
    skip: int = 0
    """Leave out this many of the nearest candidates that remain."""
    among: int | None = None
    """Draw the negatives at random from this many of the next nearest; None: take the nearest."""

    def __post_init__(self) -> None:
        check_settings(self, "mine.")
        for name, least in (("negatives", 1), ("every", 1), ("start", 0), ("skip", 0)):
            if getattr(self, name) < least:
                raise InputError(f"mine.{name} must be {least} or more, got {getattr(self, name)}")
        for name in ("absolute_margin", "relative_margin"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise InputError(f"mine.{name} must be 0 or more, got {value}")
        if self.among is not None and self.among < self.negatives:
            raise InputError(f"mine.among must be negatives ({self.negatives}) or more, got {self.among}")


@dataclass(frozen=True, kw_only=True)
class Train:
    """How a run trains: batches, duration, learning rate, checkpoints, evaluation."""

    batch_size: int = 256
    """Rows in each step's loss, over all ranks together."""
    chunk_size: int | Literal["auto"] | None = None
    """Rows that the encoders of a rank hold in memory at once, for a batch that does not fit. The loss still covers the
    whole batch, the encoders' forward is computed twice, and BatchNorm normalises over a chunk. None: the whole batch.
    "auto": the largest that fits, found before the first step and kept in the checkpoint."""
    sync_batch_norm: bool = False
    """BatchNorm over the rows of all processes instead of each: the same as one process with the whole batch, but ranks
    wait for each other in every norm. Needs whole batches (no chunks), with rows of every modality on every process."""
    gradient_checkpointing: bool = False
    """Encoders of transformers and timm keep only each layer's input, and recompute the layers in backward: much less
    memory, about a third more time. Unlike chunks, it helps when a single row is large."""
    epochs: float = 10
    """Passes over the rows; the rows of an epoch's last, incomplete batch are left to the next shuffle."""
    steps: int | None = None
    """Number of optimiser steps; if given, `epochs` is ignored."""
    lr: float = 1e-3
    """Peak learning rate; see `optim.warmup` and `optim.schedule`. Pretrained encoders need a lower one, which
    `optim.tower_lr` sets as a share of this."""
    seed: int = 0
    """Seed of weights, shuffling and views. 0,1,2: one run for each, then mean and deviation of their figures."""
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None
    """None: as set by `accelerate config` or `accelerate launch`, else no."""
    checkpoint_every: int = 500
    """Steps between checkpoints, if the run has a folder; 0: none."""
    keep: int = 2
    """Number of latest checkpoints to keep, in addition to the best."""
    evaluate_every: int = 0
    """Steps between evaluations during training; the last step is always evaluated. 0: none."""
    best: str | None = None
    """Figure that decides which evaluation is the best: its checkpoint is kept, and becomes the final model."""
    best_is: Literal["highest", "lowest"] = "highest"
    """Whether the best value of that figure is the highest or the lowest."""
    patience: int | None = None
    """Stop after this many evaluations in a row without a better `best`; None: never."""
    log_every: int = 10
    """Steps between rows of metrics.jsonl."""
    trackers: tuple[str, ...] = ()
    """Accelerate's trackers: tensorboard, wandb, trackio, ..."""
    not_finite: Literal["stop", "skip"] = "stop"
    """If a loss or gradient is not finite: stop the run, or skip the step (which synchronises with the device at every
    step). Either way the batch's rows are written to not-finite.jsonl."""
    not_finite_limit: int = 10
    """Consecutive skipped steps allowed; after one more, the run stops."""

    def __post_init__(self) -> None:
        check_settings(self, "train.")
        for name in ("batch_size", "log_every", "keep", "not_finite_limit"):
            if getattr(self, name) < 1:
                raise InputError(f"train.{name} must be 1 or more, got {getattr(self, name)}")
        if self.chunk_size is not None and self.chunk_size != "auto" and self.chunk_size < 1:
            raise InputError(f"train.chunk_size must be 1 or more, auto or none, got {self.chunk_size}")
        if self.sync_batch_norm and self.chunk_size is not None:
            raise InputError("train.sync_batch_norm needs whole batches: leave train.chunk_size at none")
        for name in ("checkpoint_every", "evaluate_every"):
            if getattr(self, name) < 0:
                raise InputError(f"train.{name} must be 0 or more, got {getattr(self, name)}")
        if self.best is not None and not self.evaluate_every:
            raise InputError(f"train.best {self.best!r} needs evaluations: give --train.evaluate-every")
        if self.patience is not None and (self.patience < 1 or self.best is None):
            raise InputError(f"train.patience must be 1 or more and needs train.best; got {self.patience}, {self.best}")
        for name in ("steps", "epochs"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"train.{name} must be above 0, got {value}")
        if not 0 < self.lr < math.inf:
            raise InputError(f"train.lr must be above 0, got {self.lr}")
