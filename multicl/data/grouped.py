"""Groups rows of one label in a batch: with thousands of classes, a random batch rarely has two rows of one class.

SupCon and other losses that use labels then have positives beyond a row's own views. Which classes share a batch stays
random.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from multicl.data.ids import label_key
from multicl.data.rows import Rows
from multicl.seeds import epoch_order
from multicl.types import InputError

Numbers = np.ndarray[Any, np.dtype[np.int64]]


def grouped(rows: Rows, column: str, count: int) -> Rows:
    """The same rows, but training visits `count` rows of one label in succession; also for `Trainer(data=...)`.

    Every row is still seen once an epoch. The remainder of a label is a smaller group, and a row without a label (null,
    NaN, -1, "") is a group of its own. A batch that ends within a group splits it.

    Raises:
        InputError: the rows are a stream or several sets; there is no such column; `count` is below 2; no two rows
            share a label.
    """
    if count < 2:
        raise InputError(f"data.grouped needs 2 rows or more per value, got {count}")
    if rows.streaming or len(rows.sizes) > 1:
        raise InputError(f"data.grouped works with one set that is not a stream, unlike {rows.label}")
    number: dict[Any, int] = {}
    keys = (label_key(cell) for cell in rows.column(column))
    labels = np.array([number.setdefault(i if key is None else key, len(number)) for i, key in enumerate(keys)])
    if len(number) == len(rows):
        raise InputError(f"data.grouped: no two rows of {rows.label} share a value of column {rows.resolve(column)!r}")
    made = rows.take(range(len(rows)))
    made.groups = labels, count
    return made


def grouped_order(seed: int, epoch: int, labels: Numbers, count: int) -> Numbers:
    """[N] the order in which an epoch visits rows with these labels: random groups of `count`, in random order."""
    order = epoch_order(seed, epoch, len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # label by label, shuffled within each
    of = labels[order]
    first = np.flatnonzero(np.r_[True, of[1:] != of[:-1]])
    within = np.arange(len(of)) - np.repeat(first, np.diff(np.r_[first, len(of)]))
    group = np.cumsum(within % count == 0) - 1
    places = np.random.default_rng([seed, epoch, count]).permutation(int(group[-1]) + 1)
    found: Numbers = order[np.argsort(places[group], kind="stable")]
    return found
