"""Rows of a data set -> this rank's slice of each step's batch.

The order of the rows is a pure function of (seed, epoch): a position in the run is a step number, and resuming needs
nothing else. `batch_size` is global; rank r takes its slice, nothing is repeated, and the incomplete batch at the end
of an epoch is left for the next shuffle.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
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
from multicl.data.reader import CPU, Reader, sources_of
from multicl.data.rows import Rows, open_rows
from multicl.data.slice import Skipped, Slice
from multicl.data.sources.tables import TABLES
from multicl.data.stream import StreamSteps, packed
from multicl.signals import HANGUP
from multicl.types import InputError

__all__ = ["Data", "Reader", "Skipped", "Slice", "Steps", "StreamSteps", "open_data", "slices", "sources_of"]

PRELOAD = ["torch.utils.data", "datasets"]
"""What takes each loader process seconds to import: the server that forks them does it once."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where rows come from."""

    path: str | None = None
    """A table (.parquet, .jsonl, .csv, .tar; "shards-*.tar" is several), whose paths begin at its folder; a folder of
    tables, images or sounds; or a hub name. Columns caption_1, caption_2 ... are together in one more, caption."""
    config: str | None = None
    """The hub set's configuration."""
    split: str = "train"
    """What of it to train on; a slice is "train[:1000]", and one file is all "train"."""
    test: str = "test"
    """The held-out split; a path stands for a file of its own."""
    mix: dict[str, float] = field(default_factory=dict)
    """More data to train on, of other columns too: path or hub name -> weight, how many rows are taken of it where
    `weight` are of `path`; 0: as many as it has. `--data.weight 1 --data.mix sounds/ 1 more.parquet 0.5`."""
    weight: float = 0.0
    """Of the rows of `path`, or in a list of Data of each; 0: as many as there are."""
    batches: Batches = "mixed"
    """With several sets: "mixed": each batch has rows of all of them; "one": of one."""
    grouped: tuple[str, int] | None = None
    """A column, and how many rows of one value of it come together in a batch: `--data.grouped label 4`, where classes
    are so many that a batch has hardly two rows of one. None: rows come by chance."""
    columns: dict[str, str] = field(default_factory=dict)
    """Name that the recipe asks for -> column of the data: `--data.columns image img text caption`."""
    streaming: bool = False
    """Rows are read on the fly, shuffled in a buffer, and nothing is prepared on the disk first."""
    on_error: Literal["skip", "raise"] = "skip"
    """A cell that cannot be read is counted, named in the log and left out; or stops the run."""
    workers: int | None = None
    """Loader processes; None: one a core but one, where every epoch decodes slowly again, or what is decoded does not
    fit `cache_gb`. Of a stream they decode what the run itself reads."""
    cache_gb: float = 4.0
    """Decoded samples that never change are kept in memory up to this size; pictures that are all of one size on the
    GPU, where they take no more than a sixteenth of its free memory."""

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
        """The configuration for other data in the place of `path`: it is of that one alone."""
        return self.config if isinstance(data, str) and data == self.path else None

    def open(self, split: str | None = None) -> Rows:
        """The rows of a split (default: the training split), or of another file or folder.

        Args:
            split: a split of `path`, or a path: what ends as a table does, or has a / in it.

        Raises:
            InputError: no path given, or it cannot be read.
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
    """Whether a held-out split is a path: it ends as a table does, or has a / in it."""
    return "/" in split or os.sep in split or Path(split).suffix.lower() in TABLES


def open_data(data: Any, columns: Mapping[str, str] | None = None) -> tuple[Rows, Data]:
    """What `Trainer(data=...)` takes -> its rows, and how they are loaded: of a list of sets, as the first Data says.

    A list of paths, Data, data sets or DataFrames is several sets; a list of dicts or tuples is one.

    Raises:
        InputError: see `open_rows`; a stream among several sets; columns for Data, which have their own.
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
    """Map-style data: step number -> this rank's slice."""

    def __init__(self, reader: Reader, batch_size: int, rank: int, world: int) -> None:
        self.order = Order(reader.rows, batch_size, reader.seed)
        self.reader, self.batch_size, self.rank, self.world = reader, batch_size, rank, world
        self._epoch: tuple[int, Any] = (-1, None)

    @property
    def epoch_steps(self) -> int:
        """Steps of an epoch."""
        return self.order.epoch_steps

    def __getitem__(self, step: int) -> Slice:
        """The slice of a step, counted from the beginning of the run."""
        epoch, at = divmod(step, self.order.epoch_steps)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self.order.epoch(epoch))
        batch = self._epoch[1][at * self.batch_size : (at + 1) * self.batch_size]
        mine = np.array_split(batch, self.world)[self.rank]
        # in a mixture an epoch may visit a row twice, and each visit draws for itself
        return self.reader.slice(mine.tolist(), step if isinstance(self.reader.rows, Mixture) else epoch)


class _Guarded(torch.utils.data.Dataset[Any]):
    """Hands an InputError over as a value: raised in a loader process, it would come back wrapped in a traceback.

    So it does with one that reading a stream came to, after the slices of what was read before.
    """

    def __init__(self, steps: Steps | StreamSteps) -> None:
        self.steps = steps

    def __getitem__(self, asked: Any) -> Slice | InputError:
        if isinstance(asked, InputError):
            return asked
        try:
            return self.steps[asked]
        except InputError as error:
            return InputError(str(error))


def slices(
    reader: Reader, settings: Data, batch_size: int, rank: int, world: int, start: int, steps: int, pin: bool,
    device: torch.device = CPU,
) -> Iterator[Slice]:  # fmt: skip
    """This rank's slices of steps start .. steps - 1, loaded ahead by workers where that helps.

    Args:
        pin: tensors of the CPU are to be page-locked. device: where samples that are all alike may lie, and their
            batches with them, where nothing is loaded by workers.

    Raises:
        InputError: the batch is larger than the data; (while iterating) a loader process died.
    """
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # ranks that share this machine's memory
    room, workers = settings.cache_gb * 1e9 / here, settings.workers
    most = min(8, cores() - 1)
    asked: Any = range(start, steps)
    if reader.rows.streaming:
        stream = StreamSteps(reader, batch_size, rank, world, start)
        data, asked = _Guarded(stream), islice(stream.reads(), max(0, steps - start))
        room = 0.0  # a stream need not give the same row at the same place again
        if workers is None:
            first = list(islice(asked, 1))
            asked = chain(first, asked)
            workers = most if most and any(map(stream.slow, first)) else 0
    else:
        data = _Guarded(Steps(reader, batch_size, rank, world))
        if workers is None:
            workers = most if reader.decodes_on(room) else 0
    sent = _pickled(data) if workers else None
    if workers and sent is None:
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
        multiprocessing_context=_start_method() if workers else None,
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),  # a loader draws a number; the global generator stays as it is
        worker_init_fn=_begin_loader if workers else None,
    )
    with nullcontext() if sent is None or sent.names_main else _main_unseen():
        return _unguarded(iter(loader))


def _start_method() -> str:
    """How loader processes start: a fork of a process with threads may hang, and Windows has no server that forks."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    multiprocessing.set_forkserver_preload(PRELOAD)
    return "forkserver"


class _Sent:
    """Where a pickle goes that is only looked at."""

    names_main = False

    def write(self, data: Any) -> int:
        self.names_main |= b"__main__" in bytes(data)
        return len(data)


def _pickled(data: _Guarded) -> _Sent | None:
    """What is known of the work once it is sent to another process; None where it cannot be."""
    sent = _Sent()
    try:
        pickle.Pickler(sent).dump(data)
    except Exception:  # whatever an object's __reduce__ raises
        return None
    return sent


@contextmanager
def _main_unseen() -> Iterator[None]:
    """Processes that start import the main script, which trains anew in each of them unless it is guarded.

    They need not where they are sent nothing that is defined in it.
    """
    main = sys.modules["__main__"]
    spec, file = main.__spec__, main.__dict__.pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file


def _begin_loader(worker: int) -> None:
    """In a loader process: it lives as long as the run's process does, and no shorter.

    Ctrl-C, and the end of a terminal, reach every process of it, but the run ends its step and needs its loaders until
    then. Where the run is killed, the server that forked its loaders stays as long as they do, and torch's own watch
    looks at that one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if HANGUP:
        signal.signal(HANGUP, signal.SIG_IGN)
    run = multiprocessing.parent_process()
    assert run is not None

    def follow() -> None:
        run.join()
        os._exit(1)

    threading.Thread(target=follow, name="follow the run", daemon=True).start()


def _unguarded(found: Iterator[Slice | InputError]) -> Iterator[Slice]:
    while True:
        try:
            part = next(found)
        except StopIteration:
            return
        except RuntimeError as error:
            if "DataLoader worker" not in str(error) or "exited unexpectedly" not in str(error):
                raise
            raise InputError(
                "a loader process died (what it printed is above): out of memory, or because it ran the script anew, "
                "which defines an adapter and trains without `if __name__ == '__main__':`. Give --data.workers 0 (in "
                "Python: Data(workers=0)) to load without such processes"
            ) from error
        if isinstance(part, InputError):
            del found  # the loader's processes end now, and not when somebody lets go of the traceback
            raise part
        yield part
