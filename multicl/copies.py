"""Counts held-out rows that are also among the training rows: their figures reward memorisation."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from multicl.data.equal_files import Files
from multicl.data.ids import content_ids
from multicl.data.loading import Data
from multicl.data.rows import Rows
from multicl.trainer import Trainer
from multicl.types import InputError

MOST = 100_000
"""Data with more rows than this is not searched for copies, because that reads every row."""


def copies(columns: Mapping[str, bool], train: Rows, held: Rows) -> int:
    """Number of held-out rows whose text or file equals that of one training row in every column; 0 above MOST rows.

    Args:
        columns: name -> whether its strings are paths of files.
    """
    if len(train) + len(held) > MOST:
        return 0
    ids = []
    for name, files in columns.items():
        cells = chain(train.found(name, files), held.found(name, files))
        ids.append(content_ids([cells], range(len(train) + len(held)), [Files() if files else None])[0].tolist())
    rows = list(zip(*ids, strict=True))
    trained = set(rows[: len(train)])
    return sum(row in trained for row in rows[len(train) :])


def caution(count: int, held: int) -> str:
    """A warning that `count` of `held` held-out rows are copies."""
    return f"{count} of {held} held-out rows are copies of training rows, so figures are too good: remove them"


def caution_of(trainer: Trainer, data: Data) -> str | None:
    """The warning for a run whose held-out split has copies; None if it has none or cannot be searched."""
    if trainer.rows.streaming:
        return None
    columns = {trainer.reader.columns[node]: modality.files for node, modality in trainer.reader.modalities.items()}
    try:
        held = data.open(data.test)
        count = copies(columns, trainer.rows, held)
    except InputError:  # no such split: the figures come from other data
        return None
    return f"{held.label}: {caution(count, len(held))}" if count else None
