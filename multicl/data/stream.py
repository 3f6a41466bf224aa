"""Rows of a stream -> this rank's slice of each step's batch.

The main process reads the stream, so that the order of rows does not depend on the number of loader processes. It sends
them the rows of a slice undecoded.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import numpy as np
import torch

from multicl.data.reader import Reader
from multicl.data.rows import Row
from multicl.data.slice import Slice
from multicl.types import InputError

Read = tuple[list[int], int, list[Row]]
"""The numbers of a slice's rows, the epoch, and the rows."""


class StreamSteps(torch.utils.data.Dataset[Slice]):
    """Streamed data: every rank reads the stream and keeps its slice of each batch; resuming skips up to `start`."""

    def __init__(
        self, reader: Reader, batch_size: int, rank: int, world: int, start: int, shuffle: int = 10_000
    ) -> None:
        self.reader, self.batch_size, self.rank, self.world = reader, batch_size, rank, world
        self.start, self.shuffle = start, shuffle

    def __getitem__(self, read: Read | bytes) -> Slice:
        """The slice of an item of `reads`, `packed` or not; called in a loader process if there are any."""
        return self.reader.slice(*(pickle.loads(read) if isinstance(read, bytes) else read))

    def slow(self, read: Read | InputError) -> bool:
        """Whether the first of these rows load slowly enough to justify loader processes."""
        if isinstance(read, InputError):
            return False
        numbers, epoch, rows = read
        return self.reader.slow(numbers[:8], epoch, rows[:8])

    def reads(self) -> Iterator[Read | InputError]:
        """Yield this rank's rows for each step from `start` on, endlessly; an InputError is yielded, and ends it."""
        try:
            yield from self._reads()
        except InputError as error:
            yield error

    def _reads(self) -> Iterator[Read]:
        step, epoch = 0, 0
        while True:
            batch: list[tuple[int, Row]] = []
            found = 0
            for numbered in self._shuffled(epoch):
                found += 1
                batch.append(numbered)
                if len(batch) == self.batch_size:
                    if step >= self.start:
                        part = np.array_split(np.arange(len(batch)), self.world)[self.rank]
                        mine = [batch[i] for i in part]
                        yield [n for n, _ in mine], epoch, [row for _, row in mine]
                    step, batch = step + 1, []
            if found < self.batch_size:
                raise InputError(f"the batch ({self.batch_size}) is larger than the stream ({found} rows)")
            epoch += 1

    def _shuffled(self, epoch: int) -> Iterator[tuple[int, Row]]:
        """Yield rows from a buffer in seeded random order; a row's number is its position in the unshuffled stream."""
        rng = np.random.default_rng([self.reader.seed, epoch])
        buffer: list[tuple[int, Row]] = []
        columns = self.reader.needed
        for number, row in enumerate(self.reader.rows):
            numbered = number, {column: row.get(column) for column in columns}
            if len(buffer) < self.shuffle:
                buffer.append(numbered)
                continue
            i = int(rng.integers(len(buffer)))
            buffer[i], leaving = numbered, buffer[i]
            yield leaving
        for i in rng.permutation(len(buffer)):
            yield buffer[int(i)]


def packed(read: Read | InputError) -> bytes | InputError:
    """What is sent to a loader process: bytes, since a queue drops what it cannot pickle, and the run would hang."""
    if isinstance(read, InputError):
        return InputError(str(read))
    try:
        return pickle.dumps(read, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # an object's __reduce__ may raise anything
        return InputError(
            f"a row among {read[0][:3]} ... of the stream cannot be sent to loader processes, as it does not pickle "
            f"({error}): give --data.workers 0"
        )
