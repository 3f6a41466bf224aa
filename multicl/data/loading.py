"""Rows of a data set -> this rank's slice of each step's batch.

The order of the rows is a pure function of (seed, epoch), so a step number is all that resuming needs. `batch_size` is
global: rank r takes its slice of each batch, and no row is repeated. The incomplete batch at the end of an epoch is
dropped; its rows take part in the next epoch's shuffle.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from multicl.choices import check_settings
from multicl.data.ahead import cores
from multicl.data.grouped import grouped
from multicl.data.mixture import Batches, Mixture, Order
from multicl.data.processes import Guarded, begin_loader, main_unseen, sent, start_method, unguarded
from multicl.data.reader import CPU, Reader, sources_of
from multicl.data.rows import Rows, open_rows
from multicl.data.slice import Skipped, Slice
from multicl.data.sources.tables import TABLES
from multicl.data.stream import StreamSteps, packed
from multicl.types import InputError

__all__ = ["Data", "Reader", "Skipped", "Slice", "Steps", "StreamSteps", "open_data", "slices", "sources_of"]


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where rows come from."""

    path: str | None = None
    """A table (.parquet, .jsonl, .csv, .tar; "shards-*.tar" for several), with paths relative to its folder; a folder
    of tables, images or sounds; or a hub name. Columns caption_1, caption_2 ... are also gathered into one, caption."""
    config: str | None = None
    """The hub set's configuration."""
    split: str = "train"
    """The split to train on, or a slice of it: "train[:1000]". A single file is all split "train"."""
    test: str = "test"
    """The held-out split, or the path of a held-out file or folder."""
    mix: dict[str, float] = field(default_factory=dict)
    """More data sets to train on, whose columns may differ: path or hub name -> weight, the share of rows drawn from
    it relative to `weight`; 0: its number of rows. `--data.weight 1 --data.mix sounds/ 1 more.parquet 0.5`."""
    weight: float = 0.0
    """The weight of `path` (in a list of Data, of each) when sets are mixed; 0: its number of rows."""
    batches: Batches = "mixed"
    """With several sets: "mixed": each batch has rows of all sets; "one": each batch has rows of one set."""
    grouped: tuple[str, int] | None = None
    """A column, and how many rows with the same value a batch gets together: `--data.grouped label 4`. Use it when
    there are so many classes that a random batch rarely has two rows of one. None: plain shuffling."""
    columns: dict[str, str] = field(default_factory=dict)
    """Name that the recipe asks for -> column of the data: `--data.columns image img text caption`."""
    streaming: bool = False
    """Read rows on the fly and shuffle them in a buffer, without preparing anything on disk first."""
    on_error: Literal["skip", "raise"] = "skip"
    """For a cell that cannot be read: "skip" counts it, logs it and leaves it out; "raise" stops the run."""
    workers: int | None = None
    """Loader processes. None: one per core but one (8 at most) if decoding is slow in every epoch or decoded samples
    exceed `cache_gb`, otherwise none. The main process reads a stream itself; they only decode it."""
    cache_gb: float = 4.0
    """Decoded samples that never change are cached in memory, up to this size. Images that all have one size are cached
    on the GPU instead, if they take at most a sixteenth of its free memory."""

    def __post_init__(self) -> None:
        check_settings(self, "data.")
        if self.workers is not None and self.workers < 0:
            raise InputError(f"data.workers must be 0 or more, got {self.workers}")
        if not self.cache_gb >= 0:
            raise InputError(f"data.cache_gb must be 0 or more, got {self.cache_gb}")
        for name, weight in (("weight", self.weight), *((f"mix of {name}", w) for name, w in self.mix.items())):
            if not 0 <= weight < math.inf:
                raise InputError(f"data.{name} must be 0 or more, got {weight}")

    def config_of(self, data: Any) -> str | None:
        """The hub configuration to open these data with: `config` if they are `path`, None for other data."""
        return self.config if isinstance(data, str) and data == self.path else None

    def open(self, split: str | None = None) -> Rows:
        """The rows of a split (default: the training split), or of another file or folder.

        Args:
            split: a split of `path`, or a path (see `is_path`).

        Raises:
            InputError: no path is given, or it cannot be read.
        """
        if split is not None and is_path(split):
            return open_rows(split, columns=self.columns, streaming=self.streaming)
        if self.path is None:
            raise InputError("no data: give --data.path with a file, a folder or a hub name")
        rows = open_rows(
            self.path, split=split or self.split, config=self.config, columns=self.columns, streaming=self.streaming
        )
        if split is not None or not self.mix:
            return rows
        more = [open_rows(name, split=self.split, columns=self.columns, streaming=self.streaming) for name in self.mix]
        weights = [weight or None for weight in (self.weight, *self.mix.values())]
        return Mixture([rows, *more], weights, self.batches)


def is_path(split: str) -> bool:
    """Whether a held-out split is a path: it has a / in it, or ends in a suffix of tables such as .csv."""
    return "/" in split or os.sep in split or Path(split).suffix.lower() in TABLES


def open_data(data: Any, columns: Mapping[str, str] | None = None) -> tuple[Rows, Data]:
    """What `Trainer(data=...)` takes -> its rows, and their loading settings: for several sets those of the first Data.

    A list of paths, Data, data sets or DataFrames is several sets; a list of dicts or tuples is one set.

    Raises:
        InputError: see `open_rows`; one of several sets is a stream; `columns` are given for Data, which has its own.
    """
    parts = data if isinstance(data, list) else [data]
    if columns and parts and all(isinstance(part, Data) for part in parts):
        raise InputError(f"columns={dict(columns)} is for data that are not Data: write Data(columns=...)")
    if isinstance(data, Data):
        rows = data.open()
        return (grouped(rows, *data.grouped) if data.grouped else rows), data
    own = Data(columns=dict(columns or {}))
    if any(isinstance(part, Data) and part.grouped for part in parts):
        raise InputError("data.grouped is for one set, and data= names several")
    if not isinstance(data, list) or not data or isinstance(data[0], Mapping | tuple):
        return open_rows(data, columns=columns), own
    first = next((part for part in data if isinstance(part, Data)), own)
    sets = [part.open() if isinstance(part, Data) else open_rows(part, columns=columns) for part in data]
    weights = [part.weight or None if isinstance(part, Data) else None for part in data]
    return (Mixture(sets, weights, first.batches) if len(sets) > 1 else sets[0]), first


class Steps(torch.utils.data.Dataset[Slice]):
    """A map-style data set: step number -> this rank's slice of the batch."""

    def __init__(self, reader: Reader, batch_size: int, rank: int, world: int) -> None:
        self.order = Order(reader.rows, batch_size, reader.seed)
        self.reader, self.batch_size, self.rank, self.world = reader, batch_size, rank, world
        self._epoch: tuple[int, Any] = (-1, None)

    @property
    def epoch_steps(self) -> int:
        """Steps per epoch."""
        return self.order.epoch_steps

    def __getitem__(self, step: int) -> Slice:
        """The slice of a step; steps count from the beginning of the run."""
        epoch, at = divmod(step, self.order.epoch_steps)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self.order.epoch(epoch))
        batch = self._epoch[1][at * self.batch_size : (at + 1) * self.batch_size]
        mine = np.array_split(batch, self.world)[self.rank]
        # in a mixture an epoch may visit a row twice: seeded by step, each visit gets its own random draws
        return self.reader.slice(mine.tolist(), step if isinstance(self.reader.rows, Mixture) else epoch)


def slices(
    reader: Reader, settings: Data, batch_size: int, rank: int, world: int, start: int, steps: int, pin: bool,
    device: torch.device = CPU,
) -> Iterator[Slice]:  # fmt: skip
    """This rank's slices of steps start .. steps - 1, prefetched by loader processes where that helps.

    Args:
        pin: page-lock CPU tensors. device: where samples of one shape may be cached, and their batches made, if there
            are no loader processes.

    Raises:
        InputError: the batch is larger than the data; (while iterating) a loader process died.
    """
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # ranks that share this machine's memory
    room, workers = settings.cache_gb * 1e9 / here, settings.workers
    most = min(8, cores() - 1)
    asked: Any = range(start, steps)
    if reader.rows.streaming:
        stream = StreamSteps(reader, batch_size, rank, world, start)
        data, asked = Guarded(stream), islice(stream.reads(), max(0, steps - start))
        room = 0.0  # a stream may give another row at the same place in the next epoch
        if workers is None:
            first = list(islice(asked, 1))
            asked = chain(first, asked)
            workers = most if most and any(map(stream.slow, first)) else 0
    else:
        data = Guarded(Steps(reader, batch_size, rank, world))
        if workers is None:
            workers = most if reader.decodes_on(room) else 0
    found = sent(data) if workers else None
    if workers and found is None:
        if settings.workers:
            raise InputError(
                f"{reader.rows.label} or an adapter cannot be sent to loader processes, as it does not pickle (is its "
                "class or a function of it defined inside a function?): give --data.workers 0"
            )
        workers = 0
    reader.keep(0.0 if workers else room, device, pin)
    loader = torch.utils.data.DataLoader(
        data,
        batch_size=None,
        sampler=map(packed, asked) if workers and reader.rows.streaming else asked,
        num_workers=workers,
        pin_memory=pin,
        multiprocessing_context=start_method() if workers else None,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),  # DataLoader draws a seed: keep it off the global generator
        worker_init_fn=begin_loader if workers else None,
    )
    with nullcontext() if found is None or found.names_main else main_unseen():
        return unguarded(iter(loader))
