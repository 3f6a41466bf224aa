"""Labels of a column -> the numbers of a Target's classes."""

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
    """The terms, each Target with the classes that its column holds where it names none.

    Classes are in order: whole numbers by value, then texts.

    Raises:
        InputError: no such column, a stream, or a column of fewer than two labels.
    """
    return [_found(t, rows) if isinstance(t, Target) and not t.classes else t for t in terms]


def class_numbers(target: Target, labels: Iterable[object], rows: Iterable[int] | None = None) -> Ids:
    """[N] the number of each label's class, -1 where there is no label.

    Args:
        rows: how an error calls them; default: 0, 1, ...

    Raises:
        InputError: a label that is none of the classes.
    """
    number = {label_key(name): i for i, name in enumerate(target.classes)}
    found = []
    for at, label in zip(count() if rows is None else rows, labels, strict=False):
        key = label_key(label)
        if key is not None and key not in number:
            raise InputError(
                f"target {target.name!r}: row {at} has the label {key!r}, which is none of its classes "
                f"{list(target.classes)}: correct it, or make it null"
            )
        found.append(-1 if key is None else number[key])
    return np.array(found, dtype=np.int64)


def _found(target: Target, rows: Rows) -> Target:
    if rows.streaming:
        raise InputError(f"target {target.name!r}: a stream's classes are not known ahead: give classes=(...)")
    column = rows.resolve(target.column, f", the labels of target {target.name!r}")
    keys = {key for cell in rows.cells(column) if (key := label_key(cell)) is not None}
    if len(keys) < 2:
        raise InputError(f"target {target.name!r}: column {column!r} holds {sorted(keys)}: two classes are the least")
    return replace(target, classes=tuple(sorted(keys, key=_order)))


def _order(key: str) -> tuple[bool, int, str]:
    whole = key.removeprefix("-").isdecimal()
    return not whole, int(key) if whole else 0, key
