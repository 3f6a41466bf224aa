"""What the settings of an objective that holds another one tell of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from multicl.types import InputError, MoreKeys, Objective


class Wrapper:
    """Settings with an `objective` inside: whoever asks about directions, similarity or targets is told of that one."""

    objective: Objective

    @property
    def both_directions(self) -> bool:
        """Whether either side's rows ask."""
        return bool(getattr(self.objective, "both_directions", True))

    @property
    def similarity(self) -> str:
        """Of the vectors: "cosine" or "dot"."""
        return getattr(self.objective, "similarity", "cosine")

    @property
    def own_negative(self) -> float:
        """How many times a row's own explicit negatives count."""
        return getattr(self.objective, "own_negative", 1.0)

    @property
    def extras(self) -> tuple[MoreKeys, ...]:
        """What brings keys that it takes."""
        return extras_of(self.objective)

    @property
    def scores(self) -> str | None:
        """The kind of target that it takes."""
        return getattr(self.objective, "scores", None)


def extras_of(objective: Any) -> tuple[MoreKeys, ...]:
    """What may bring an objective more keys; everything, where it does not say."""
    taken: tuple[MoreKeys, ...] = getattr(objective, "extras", get_args(MoreKeys))
    return taken


def check_objective(owner: str, objective: Any) -> None:
    """Raise InputError, which begins with the owner, where these are no objective's settings: the class, say."""
    if isinstance(objective, type) or not hasattr(objective, "build"):
        name = getattr(objective, "__name__", repr(objective))
        raise InputError(f"{owner}: objective must be settings with `build`, as InfoNCE(), got {name}")


def layers(objective: Any) -> Iterator[Any]:
    """An objective's settings, and those which they hold, one in the other."""
    while objective is not None:
        yield objective
        objective = objective.objective if isinstance(objective, Wrapper) else None
