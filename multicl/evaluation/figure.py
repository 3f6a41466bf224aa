"""A measured number with its confidence interval: percentile bootstrap over rows."""

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
"""Bootstrap resamples of an interval."""
LEVEL = 0.95
Again = Callable[..., float]
"""Recomputes a figure on rows drawn with replacement: an index [N] int64 for each set of rows -> a number."""


class Figure(float):
    """A float that can also compute its confidence interval, by bootstrap over its rows (Efron 1979).

    The interval is computed only when it is asked for, so that figures measured during training cost nothing more.
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
            rows: how many rows it was computed from; several sets (of two modalities, say) are resampled independently.
            again: recomputes the figure on drawn rows; a draw that raises InputError or gives NaN is left out.
            draws: number of resamples; fewer where each is slow.
            biased: repeated rows shift the figure itself (an effective rank, say); the interval is shifted back by the
                mean shift.
        """
        self = super().__new__(cls, value)
        self.rows, self.again, self.draws = (rows,) if isinstance(rows, int) else rows, again, draws
        self.biased = biased
        return self

    def interval(self, level: float = LEVEL, seed: int = 0) -> tuple[float, float]:
        """(low, high) that enclose a share `level` of the resampled figures; equal seeds give equal intervals.

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
            except InputError:  # the draw has no figure: its values may all be equal
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
    """The mean of one value per row [N]; of hits, an accuracy."""
    values = values.detach().to("cpu", torch.float64)
    return Figure(float(values.mean()), len(values), lambda index: float(values[index].mean()))


def average_of(figures: Sequence[Figure]) -> Figure:
    """The mean of figures of different sets of rows; the bootstrap resamples each set by itself."""

    def again(*index: Tensor) -> float:
        left = iter(index)
        return statistics.fmean(figure.again(*islice(left, len(figure.rows))) for figure in figures)

    rows = tuple(chain.from_iterable(figure.rows for figure in figures))
    draws, biased = min(figure.draws for figure in figures), any(figure.biased for figure in figures)
    return Figure(statistics.fmean(figures), rows, again, draws, biased)


def intervals(figures: Mapping[str, float], level: float = LEVEL, seed: int = 0) -> dict[str, list[float]]:
    """Name -> [low, high], to six decimals, of every `Figure`; plain numbers are left out."""
    return {
        name: [round(edge, 6) for edge in figure.interval(level, seed)]
        for name, figure in figures.items()
        if isinstance(figure, Figure)
    }


class Spread(NamedTuple):
    """One figure over several seeds."""

    mean: float
    deviation: float
    """Standard deviation of the sample (n - 1); NaN for a single value."""
    values: tuple[float, ...]


def spread(figures: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Mean and standard deviation of every figure that all runs, or seeds of a measure, have in common.

        spread([measure(seed) for seed in range(5)])

    Raises:
        InputError: `figures` is empty.
    """
    if not figures:
        raise InputError("spread needs the figures of at least one run")
    found = {}
    for name in (name for name in figures[0] if all(name in other for other in figures)):
        values = tuple(float(other[name]) for other in figures)
        deviation = statistics.stdev(values) if len(values) > 1 else math.nan
        found[name] = Spread(statistics.fmean(values), deviation, values)
    return found
