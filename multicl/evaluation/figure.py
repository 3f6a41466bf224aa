"""A measured number that knows how sure it is: percentile bootstrap over rows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, islice
from typing import NamedTuple

import torch
from torch import Tensor

from multicl.types import InputError

DRAWS = 1000
"""Resamplings behind an interval."""
LEVEL = 0.95
Again = Callable[..., float]
"""The figure of rows drawn with replacement: an index [N] int64 for each set of rows -> a number."""


class Figure(float):
    """A float everywhere, and beside it the interval that a bootstrap over its rows gives (Efron 1979).

    The interval is computed when it is first asked for, so that figures measured while a run trains cost nothing more.
    """

    again: Again
    rows: tuple[int, ...]
    draws: int
    biased: bool

    def __new__(
        cls, value: float, rows: int | tuple[int, ...], again: Again, draws: int = DRAWS, biased: bool = False
    ) -> Figure:
        """A figure.

        Args:
            rows: of how many it was made; several sets of rows (of two modalities) are drawn from independently.
            again: the same figure of drawn rows; an InputError or NaN leaves that draw out.
            draws: resamplings, fewer where one is slow.
            biased: drawing rows twice moves the figure itself, as an effective rank; the interval is moved back by the
                mean of it.
        """
        self = super().__new__(cls, value)
        self.rows, self.again, self.draws = (rows,) if isinstance(rows, int) else rows, again, draws
        self.biased = biased
        return self

    def interval(self, level: float = LEVEL, seed: int = 0) -> tuple[float, float]:
        """(low, high) between which `level` of the resampled figures lie; equal seeds give equal intervals.

        Raises:
            InputError: level not between 0 and 1.
        """
        if not 0 < level < 1:
            raise InputError(f"level must lie between 0 and 1, got {level}")
        dice = torch.Generator().manual_seed(seed)
        found = []
        for _ in range(self.draws):
            index = [torch.randint(n, (n,), generator=dice) for n in self.rows]
            try:
                value = float(self.again(*index))
            except InputError:  # all drawn values equal, say: such a draw has no figure
                continue
            if not math.isnan(value):
                found.append(value)
        if not found:
            return float(self), float(self)
        edges = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
        drawn = torch.tensor(found, dtype=torch.float64)
        if self.biased:
            drawn += float(self) - drawn.mean()
        low, high = drawn.quantile(edges).tolist()
        return low, high


def mean_of(values: Tensor) -> Figure:
    """The mean of what each row has [N]: an accuracy, of hits."""
    values = values.detach().to("cpu", torch.float64)
    return Figure(float(values.mean()), len(values), lambda index: float(values[index].mean()))


def average_of(figures: Sequence[Figure]) -> Figure:
    """The mean of figures of different rows, as of several sets; the rows of each are drawn within it."""

    def again(*index: Tensor) -> float:
        left = iter(index)
        return statistics.fmean(figure.again(*islice(left, len(figure.rows))) for figure in figures)

    rows = tuple(chain.from_iterable(figure.rows for figure in figures))
    draws, biased = min(figure.draws for figure in figures), any(figure.biased for figure in figures)
    return Figure(statistics.fmean(figures), rows, again, draws, biased)


def intervals(figures: Mapping[str, float], level: float = LEVEL, seed: int = 0) -> dict[str, list[float]]:
    """Name -> [low, high], six decimals, of those figures that know theirs."""
    return {
        name: [round(edge, 6) for edge in figure.interval(level, seed)]
        for name, figure in figures.items()
        if isinstance(figure, Figure)
    }


class Spread(NamedTuple):
    """One figure of several seeds."""

    mean: float
    deviation: float
    """Of the sample (n - 1); NaN where there is one value."""
    values: tuple[float, ...]


def spread(figures: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Mean and deviation of every figure that all of several runs, or seeds of a measure, have.

        spread([measure(seed) for seed in range(5)])

    Raises:
        InputError: nothing to average.
    """
    if not figures:
        raise InputError("spread needs the figures of at least one run")
    found = {}
    for name in (name for name in figures[0] if all(name in other for other in figures)):
        values = tuple(float(other[name]) for other in figures)
        deviation = statistics.stdev(values) if len(values) > 1 else math.nan
        found[name] = Spread(statistics.fmean(values), deviation, values)
    return found
