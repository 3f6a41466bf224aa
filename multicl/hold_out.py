"""Rows kept back from training, for data that bring no held-out split of their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multicl.data import Data
from multicl.rows import Rows
from multicl.types import InputError


@dataclass(frozen=True, kw_only=True)
class HoldOut(Data):
    """A random share of the training split is kept back; `open("held-out")` gives it."""

    hold_out: float = 0.1
    """Share of the rows, in (0, 1)."""
    hold_out_seed: int = 0
    """Chooses them."""
    test: str = "held-out"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.hold_out < 1:
            raise InputError(f"data.hold_out must be a share in (0, 1), got {self.hold_out}")
        if self.streaming:
            raise InputError("no rows of a stream can be kept back: name another --data.test, or leave streaming out")

    def open(self, split: str | None = None) -> Rows:
        """As `Data.open`; the training split lacks the rows that the split "held-out" has.

        Raises:
            InputError: fewer than two rows.
        """
        if split not in (None, "held-out"):
            return super().open(split)
        rows = super().open()
        if len(rows) < 2:
            raise InputError(f"{rows.label} has {len(rows)} rows: none can be kept back")
        order = np.random.default_rng(self.hold_out_seed).permutation(len(rows))
        back = min(max(1, round(self.hold_out * len(rows))), len(rows) - 1)
        chosen = order[:back] if split else order[back:]
        return rows.take(sorted(int(n) for n in chosen))
