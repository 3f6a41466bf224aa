"""Data in which only a few rows keep their label: the setting in which semi-supervised methods are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from multicl.data.ids import label_key
from multicl.data.loading import Data
from multicl.data.rows import Rows
from multicl.types import InputError


@dataclass(frozen=True, kw_only=True)
class FewLabels(Data):
    """Adds a column `known` to the training rows: the label for a class-balanced share of them, null elsewhere."""

    label: str = "label"
    """Column of the labels."""
    labels: float = 0.1
    """Share of the training rows whose label is known, in (0, 1]; the same number for each class, at least one."""
    label_seed: int = 0
    """Seed of the choice of these rows."""
    only: bool = False
    """Train on these rows only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.labels <= 1:
            raise InputError(f"data.labels must be a share in (0, 1], got {self.labels}")
        if self.streaming:
            raise InputError("a stream's labels cannot be counted in advance: leave out data.streaming")

    def open(self, split: str | None = None) -> Rows:
        """As `Data.open`; the training split has the column `known`."""
        rows = super().open(split)
        if split is not None:
            return rows
        known = few_labels(rows.column(self.label), self.labels, self.label_seed)
        rows = rows.with_column("known", known)
        return rows.take([i for i, label in enumerate(known) if label is not None]) if self.only else rows


def few_labels(labels: Sequence[Any], share: float, seed: int) -> list[Any]:
    """The labels of a share of the rows, None elsewhere; the same number for each class, or all if it has fewer.

    Raises:
        InputError: no row has a label.
    """
    classes: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        if (key := label_key(label)) is not None:
            classes.setdefault(key, []).append(row)
    if not classes:
        raise InputError("no row has a label")
    each = max(1, round(share * sum(map(len, classes.values())) / len(classes)))
    kept: list[Any] = [None] * len(labels)
    for key in sorted(classes):
        dice = np.random.default_rng([seed, *key.encode()])  # the choice in a class does not depend on other classes
        for row in dice.permutation(classes[key])[:each]:
            kept[row] = labels[row]
    return kept
