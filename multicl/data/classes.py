"""Labels of a column -> class numbers of a Target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count

import numpy as np

from multicl.data.ids import Ids, label_key
from multicl.data.rows import Rows
from multicl.graph import Term
from multicl.targets import Target
from multicl.types import InputError


def with_classes(terms: Sequence[Term], rows: Rows) -> list[Term]:
    """The terms, with the classes of each Target that names none filled in from its column.

    Classes are sorted: integers by value, then texts.

    Raises:
        InputError: there is no such column, it holds fewer than two labels, or the rows are a stream.
    """
    return [_found(t, rows) if isinstance(t, Target) and not t.classes else t for t in terms]


def class_numbers(target: Target, labels: Iterable[object], rows: Iterable[int] | None = None) -> Ids:
    """[N] the class number of each label, -1 where there is no label.

    Args:
        rows: the row numbers that an error message gives; default: 0, 1, ...

    Raises:
        InputError: a label is not one of the classes.
    """
    number = {label_key(name): i for i, name in enumerate(target.classes)}
    found = []
    for at, label in zip(count() if rows is None else rows, labels, strict=False):
        key = label_key(label)
        if key is not None and key not in number:
            raise InputError(
                f"target {target.name!r}: row {at} has the label {key!r}, which is not one of its classes "
                f"{list(target.classes)}: correct it, or make it null"
            )
        found.append(-1 if key is None else number[key])
    return np.array(found, dtype=np.int64)


def _found(target: Target, rows: Rows) -> Target:
    if rows.streaming:
        raise InputError(f"target {target.name!r}: a stream's classes are not known in advance: give classes=(...)")
    column = rows.resolve(target.column, f", the labels of target {target.name!r}")
    keys = {key for cell in rows.cells(column) if (key := label_key(cell)) is not None}
    if len(keys) < 2:
        raise InputError(
            f"target {target.name!r}: column {column!r} holds {sorted(keys)}: two classes or more are needed"
        )
    return replace(target, classes=tuple(sorted(keys, key=_order)))


def _order(key: str) -> tuple[bool, int, str]:
    whole = key.removeprefix("-").isdecimal()
    return not whole, int(key) if whole else 0, key
