"""Settings of an objective that wraps another one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from multicl.types import InputError, MoreKeys, Objective


class Wrapper:
    """Settings with an `objective` inside: directions, similarity, extra keys and targets are that objective's."""

    objective: Objective

    @property
    def both_directions(self) -> bool:
        """Whether the rows of both sides are queries."""
        return bool(getattr(self.objective, "both_directions", True))

    @property
    def similarity(self) -> str:
        """How vectors are compared: "cosine" or "dot"."""
        return getattr(self.objective, "similarity", "cosine")

    @property
    def own_negative(self) -> float:
        """Weight of a row's own explicit negatives."""
        return getattr(self.objective, "own_negative", 1.0)

    @property
    def extras(self) -> tuple[MoreKeys, ...]:
        """The sources of extra keys that it takes."""
        return extras_of(self.objective)

    @property
    def scores(self) -> str | None:
        """The kind of target that it takes."""
        return getattr(self.objective, "scores", None)


def extras_of(objective: Any) -> tuple[MoreKeys, ...]:
    """The sources of extra keys that an objective takes; all of them, where it does not say."""
    taken: tuple[MoreKeys, ...] = getattr(objective, "extras", get_args(MoreKeys))
    return taken


def check_objective(owner: str, objective: Any) -> None:
    """Raise InputError, which begins with the owner, unless `objective` is settings, not their class, say."""
    if isinstance(objective, type) or not hasattr(objective, "build"):
        name = getattr(objective, "__name__", repr(objective))
        raise InputError(f"{owner}: objective must be settings with `build`, such as InfoNCE(), got {name}")


def layers(objective: Any) -> Iterator[Any]:
    """Yield an objective's settings and all that are nested in them, outermost first."""
    while objective is not None:
        yield objective
        objective = objective.objective if isinstance(objective, Wrapper) else None
