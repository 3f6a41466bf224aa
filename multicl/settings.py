"""What a run says about its training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from multicl.choices import check_settings
from multicl.types import InputError


@dataclass(frozen=True, kw_only=True)
class Momentum:
    """How slowly momentum towers follow the trained ones, where a pair has `keys="momentum"`."""

    rate: float = 0.999
    """What they keep of themselves at each step, in [0, 1]; MoCo's 0.999."""
    schedule: Literal["constant", "cosine"] = "constant"
    """"cosine": from `rate` up to 1 over the run (BYOL, MoCo v3)."""

    def __post_init__(self) -> None:
        check_settings(self, "momentum.")
        if not 0 <= self.rate <= 1:
            raise InputError(f"momentum.rate must be in [0, 1], got {self.rate}")

    def at(self, progress: float) -> float:
        """The rate when that share of the run is done."""
        if self.schedule == "constant":
            return self.rate
        return 1 - (1 - self.rate) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True, kw_only=True)
class Mine:
    """Hard negatives from all rows, found by searching them with the weights of then (ANCE, arXiv:2007.00808).

    Candidates of a row are the others of other ids. Those too near are left out first: among them are most of the
    positives that no id tells of.
    """

    negatives: int = 1
    """So many a row."""
    every: int = 500
    """Steps between two searches."""
    start: int = 0
    """Steps before the first search; until then there are no mined negatives."""
    absolute_margin: float | None = None
    """Left out are candidates whose similarity exceeds the positive's less this."""
    relative_margin: float | None = None
    """Or less this share of it; 0.05 in NV-Retriever (arXiv:2407.15831)."""
    max_similarity: float | None = None
    """Or this, whatever the positive's is."""
    skip: int = 0
    """Of those that remain, the nearest so many are left out, too."""
    among: int | None = None
    """Negatives are drawn at random from so many that come next; None: they are the next."""

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
    """How long and how fast."""

    batch_size: int = 256
    """Rows of the loss, over all ranks together."""
    chunk_size: int | Literal["auto"] | None = None
    """Rows that the encoders of a rank hold in memory at once, for a batch that does not fit: the loss still sees all
    of it, and the encoders' forward is computed twice; BatchNorm normalises over a chunk. None: the whole batch.
    "auto": what fits, found before the first step and kept in the checkpoint."""
    sync_batch_norm: bool = False
    """BatchNorm over the rows of all processes, not of each: what one process with the whole batch would do, for the
    ranks' waiting for each other in every norm. Needs whole batches (no chunks), and rows of every modality in them."""
    gradient_checkpointing: bool = False
    """Encoders of transformers and timm keep only what goes into each layer, and compute the layers again for backward:
    much less memory, some third more time. Unlike chunks it helps where a single row is large."""
    epochs: float = 10
    """Passes over the rows; the incomplete batch at an epoch's end waits for the next shuffle."""
    steps: int | None = None
    """The optimiser's steps; where given, they count and `epochs` does not."""
    lr: float = 1e-3
    """The highest learning rate; `optim.warmup` and `optim.schedule` say when. Encoders that begin with trained weights
    want less: `optim.tower_lr` is a share of it for each."""
    seed: int = 0
    """Of weights, shuffling and views. 0,1,2: a run each, then mean and deviation of their figures."""
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None
    """None: as `accelerate config` or `accelerate launch` says, else no."""
    checkpoint_every: int = 500
    """Steps between checkpoints of a run that has a folder; 0: none."""
    keep: int = 2
    """Checkpoints kept: the last ones, beside the best."""
    evaluate_every: int = 0
    """Steps between evaluations while the run trains, the last step among them; 0: none."""
    best: str | None = None
    """The figure of these evaluations by which the best checkpoint is known: it is kept, and is the final model."""
    best_is: Literal["highest", "lowest"] = "highest"
    """Which value of that figure is the best."""
    patience: int | None = None
    """Evaluations in a row without a better `best`, after which training ends; None: it never does."""
    log_every: int = 10
    """Steps between rows of metrics.jsonl."""
    trackers: tuple[str, ...] = ()
    """Accelerate's trackers: tensorboard, wandb, trackio, ..."""
    not_finite: Literal["stop", "skip"] = "stop"
    """What follows a loss or gradient that is not finite: the run stops, or the step is left out (which waits for the
    device at each step). Either way the batch's rows are written to not-finite.jsonl."""
    not_finite_limit: int = 10
    """Steps left out in a row, after which the run stops all the same."""

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
            raise InputError(f"train.patience must be 1 or more, beside train.best; got {self.patience}, {self.best}")
        for name in ("steps", "epochs"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"train.{name} must be above 0, got {value}")
        if not 0 < self.lr < math.inf:
            raise InputError(f"train.lr must be above 0, got {self.lr}")
