"""Held-out rows that stand among those to train on, too: their figures tell what was learnt by heart."""

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
"""Rows of data that are looked through for copies, every one of which is read."""


def copies(columns: Mapping[str, bool], train: Rows, held: Rows) -> int:
    """Held-out rows whose text or file is, in every column, that of one row to train on; 0 of more rows than MOST.

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
    """What to know of figures of so many held-out rows, some of which are copies."""
    return f"{count} of {held} held-out rows are copies of rows to train on: figures flatter; take them out"


def caution_of(trainer: Trainer, data: Data) -> str | None:
    """The same of a run whose data have a held-out split that can be looked through; None: nothing to say."""
    if trainer.rows.streaming:
        return None
    columns = {trainer.reader.columns[node]: modality.files for node, modality in trainer.reader.modalities.items()}
    try:
        held = data.open(data.test)
        count = copies(columns, trainer.rows, held)
    except InputError:  # figures are of something else
        return None
    return f"{held.label}: {caution(count, len(held))}" if count else None
