"""The settings that objectives with a temperature share: fixed, learnt or scheduled. `tempered.py` holds the module."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Literal

from multicl.choices import check_settings
from multicl.types import InputError

LOWEST_LEARNT = 0.01
"""CLIP (arXiv:2103.00020, section 2.5): a scale above 100 makes training unstable."""


@dataclass(frozen=True)
class Tempered:
    """Base class of the settings of every objective with a temperature."""

    temperature: float = 0.07
    """Similarities are divided by it; where it is learnt or scheduled, this is its initial value."""
    _: KW_ONLY
    learnable: bool = False
    """The temperature is a parameter (as 1/T on a log scale), kept at 0.01 or more as in CLIP."""
    final_temperature: float | None = None
    """The temperature moves to this value over the run, along half a cosine; None: it stays as it is."""
    similarity: Literal["cosine", "dot"] = "cosine"
    """Similarity of two vectors: their cosine, or the dot product of the vectors as they are."""

    def __post_init__(self) -> None:
        check_settings(self)
        name = type(self).__name__
        for key in ("temperature", "final_temperature"):
            value = getattr(self, key)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name}: {key} must be above 0, got {value}")
        if self.learnable and self.final_temperature is not None:
            raise InputError(
                f"{name}: a learnt temperature cannot follow a schedule: leave out learnable=True "
                f"or final_temperature={self.final_temperature}"
            )
        if self.learnable and self.temperature < LOWEST_LEARNT:
            raise InputError(
                f"{name}: a learnt temperature never falls below {LOWEST_LEARNT}, so it cannot begin at "
                f"{self.temperature}; raise it, or keep it fixed with learnable=False"
            )

    def temperature_at(self, progress: float) -> float:
        """The scheduled temperature at `progress`, the share of the run that is done, in [0, 1]."""
        if self.final_temperature is None:
            return self.temperature
        start, end = self.temperature, self.final_temperature
        return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def one_width(objective: object, dims: tuple[int, int]) -> None:
    """Check that both sides have the same width.

    Raises:
        InputError: they differ; the message names the objective.
    """
    if dims[0] != dims[1]:
        raise InputError(f"{type(objective).__name__} compares vectors of one width, got {dims[0]} and {dims[1]}")
