"""The statistics of a side's rows: how they accumulate tile by tile, and what backward needs of them.

Dimensions: N rows of a side; T tilts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from multicl.distributed import World

NARROW = 40.0
"""Logits within +-40 are narrow: their exponentials are summed without a shift, as e^-40 to e^40 times any number of
keys is well within float32. Others are wide: every row, and every column, keeps its greatest logit as its own shift."""
LOWEST = -1e30


class Running:
    """Sums over keys for each of N rows: all rows of a symmetric matrix, else the queries followed by the keys.

    Attributes:
        sums: [2T + 2, N] all of the following but the shift, in this order.
        others, inside: [T, N] sums of exp(tilt * (logit - shift)) over keys that are not positive, and over those that
            are.
        positive, count: [N] sum of the positives' logits, and their number.
        shift: [N] greatest summed logit so far; None where logits are narrow: the shift is 0.
    """

    def __init__(self, size: int, tilts: Sequence[float], positives_in_sum: bool, wide: bool, like: Tensor) -> None:
        self.tilts, self.positives_in_sum = tuple(tilts), positives_in_sum
        self.sums: Tensor = like.new_zeros(2 * len(self.tilts) + 2, size)
        self.shift = like.new_full((size,), LOWEST) if wide else None

    @cached_property
    def others(self) -> Tensor:
        """As above; made on first use, as kernels need none of these views."""
        return self.sums[: len(self.tilts)]

    @cached_property
    def inside(self) -> Tensor:
        """As above."""
        return self.sums[len(self.tilts) : -2]

    @cached_property
    def positive(self) -> Tensor:
        """As above."""
        return self.sums[-2]

    @cached_property
    def count(self) -> Tensor:
        """As above."""
        return self.sums[-1]

    def raise_to(self, most: Tensor, at: slice) -> None:
        """Raise the shifts of rows `at` to at least `most`, and rescale their sums."""
        assert self.shift is not None
        old = self.shift[at]
        new = torch.maximum(old, most)
        for t, tilt in enumerate(self.tilts):
            factor = (tilt * (old - new)).exp_()
            self.others[t, at] *= factor
            self.inside[t, at] *= factor
        self.shift[at] = new

    def add_positives(self, logits: Tensor, at: Tensor) -> None:
        """Add the logits [P] of positives to their rows `at` [P]."""
        self.positive.index_add_(0, at, logits)
        self.count.index_add_(0, at, torch.ones_like(logits))

    def sum_over_ranks(self, at: slice, world: World) -> None:
        """Sum the statistics of rows `at` over ranks, all of which have these rows in the same order."""
        if world.size == 1:
            return
        if self.shift is not None:
            self.raise_to(world.max(self.shift[at]), at)
        self.sums[:, at] = world.sum(self.sums[:, at])

    def total(self) -> Tensor:
        """[T, N] denominators of the soft-max, divided by exp(tilt * shift)."""
        return self.others + self.inside if self.positives_in_sum else self.others

    def lse(self) -> Tensor:
        """[T, N] logs of the denominators; 0 where a row has no key."""
        total = self.total()
        log: Tensor = total.log()
        if self.shift is not None:
            log += self._tilted(self.shift)
        log.masked_fill_(total == 0, 0.0)
        return log

    def slopes(self, of_lse: list[Tensor], of_positive: list[Tensor]) -> Slopes:
        """Gradients of a loss with respect to lse [T, n] and the sums of positives [n] -> its slopes.

        Each list has all rows in one part, or in two that follow each other.
        """
        lse, positive = (torch.cat(parts, -1) if len(parts) > 1 else parts[0] for parts in (of_lse, of_positive))
        total = self.total()
        empty = total == 0
        tilted = self._tilted(lse)
        share = (tilted / total).masked_fill_(empty, 0.0)
        only: Tensor | None = None
        if self.positives_in_sum:
            only = positive
            for t in range(len(self.tilts)):  # two launches a tilt: small batches on a GPU are bound by launches
                only = torch.addcmul(only + tilted[t], share[t], self.others[t], value=-1)
        if self.shift is None:
            return Slopes(self.tilts, share, None, positive, only, self.count == 1)
        wide_lse = self.lse().masked_fill_(empty, torch.inf)
        return Slopes(self.tilts, tilted, wide_lse, positive, only, self.count == 1)

    def _tilted(self, values: Tensor) -> Tensor:
        """[T, N] or [N] values times the tilts."""
        if len(self.tilts) == 1:  # copying a tensor of tilts to a GPU would synchronise
            values = values if self.tilts[0] == 1 else values * self.tilts[0]
            return values[None] if values.ndim == 1 else values
        parts = values.unbind() if values.ndim > 1 else [values] * len(self.tilts)
        return torch.stack([part * tilt for part, tilt in zip(parts, self.tilts, strict=True)])


@dataclass(frozen=True)
class Slopes:
    """dL/dlogit of row i, key j: sum_t sums[t, i] * exp(tilt * logit - lse[t, i]), and more where j is positive."""

    tilts: tuple[float, ...]
    sums: Tensor
    """[T, N]"""
    lse: Tensor | None
    """[T, N]; None where logits are narrow: `sums` are then divided by the denominator already."""
    positive: Tensor
    """[N] what a positive's slope has in addition."""
    only: Tensor | None
    """[N] the whole slope of a row's single positive: minus the sum of all other slopes, as p - 1 would cancel for p
    near 1. None where positives are not in the sums."""
    single: Tensor
    """[N] bool: rows that have exactly one positive."""

    def of_positives(self, logits: Tensor, at: Tensor) -> Tensor:
        """[P] slopes of positives with these logits [P], in the rows `at` [P]."""
        slope = self.positive[at]
        if self.only is None:
            return slope
        for t, tilt in enumerate(self.tilts):
            exponent = tilt * logits if self.lse is None else tilt * logits - self.lse[t, at]
            slope = slope + exponent.exp_() * self.sums[t, at]
        return torch.where(self.single[at], self.only[at], slope)
