"""Evaluation during training: every `evaluate_every` steps, with the best step remembered and early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from multicl.distributed import World
from multicl.running.shared import measured
from multicl.settings import Train
from multicl.types import InputError

if TYPE_CHECKING:
    from multicl.model import Model

Evaluate = Callable[["Model"], Mapping[str, float] | None]
"""The current model -> figures by name, or None for no figures."""


class Validation:
    """Evaluates on rank 0, with all ranks embedding for it; every rank learns whether the result was the best.

    Raises:
        InputError: evaluations are asked for without `evaluate`, or `evaluate` would never be called.
    """

    def __init__(self, evaluate: Evaluate | None, train: Train, world: World) -> None:
        if train.evaluate_every and evaluate is None:
            raise InputError("train.evaluate_every needs a function that measures: give Trainer(evaluate=...)")
        if evaluate is not None and not train.evaluate_every:
            raise InputError("evaluate= is never called, as train.evaluate_every is 0: give a number of steps")
        self.evaluate, self.train, self.world = evaluate, train, world
        self.best_step: int | None = None
        self.best: float | None = None
        self.last: dict[str, float] = {}
        """The figures of the last evaluation, on rank 0."""
        self.misses = 0
        """Number of evaluations since the best one."""

    def due(self, step: int, total: int) -> bool:
        """Whether to evaluate after step `step`, counted from 1."""
        every = self.train.evaluate_every
        return bool(every) and (step % every == 0 or step == total)

    @property
    def over(self) -> bool:
        """Whether patience has run out."""
        return self.train.patience is not None and self.misses >= self.train.patience

    def measure(self, step: int, model: Model) -> dict[str, float]:
        """Evaluate: the figures on rank 0, {} on the others; all ranks call it.

        Raises:
            InputError: `train.best` is not among the figures, or they are not numbers by name.
        """
        figures = dict(measured(self._figures, model, self.world)) if self.evaluate is not None else {}
        better = False
        if self.world.rank == 0 and self.evaluate is not None:
            self.last = figures
            if self.train.best is not None:
                if self.train.best not in figures:
                    raise InputError(f"train.best is {self.train.best!r}, but the figures are {sorted(figures)}")
                value = figures[self.train.best]
                sign = 1 if self.train.best_is == "highest" else -1
                better = not math.isnan(value) and (self.best is None or sign * value > sign * self.best)
                self.best = value if better else self.best
        (better,) = self.world.agree(better)
        if self.train.best is not None:
            self.best_step, self.misses = (step, 0) if better else (self.best_step, self.misses + 1)
        return figures

    def _figures(self, model: Model) -> dict[str, float]:
        assert self.evaluate is not None
        found = self.evaluate(model)
        if found is None:  # it may store its findings elsewhere
            return {}
        if not isinstance(found, Mapping):
            raise InputError(f"evaluate must give figures by name, a dict, or nothing; got {type(found).__name__}")
        figures = {}
        for name, value in found.items():
            try:
                figures[name] = float(value)
            except (TypeError, ValueError, RuntimeError) as error:
                raise InputError(f"evaluate must give numbers, got {value!r} for {name!r}") from error
        return figures

    def state(self) -> dict[str, Any]:
        """The state to save in a checkpoint."""
        return {"best_step": self.best_step, "best": self.best, "best_by": self._by, "misses": self.misses}

    def restore(self, state: Mapping[str, Any]) -> list[str]:
        """Restore what `state` returned; if another figure decides now, or none, the best so far is dropped.

        Returns:
            Messages for the user.
        """
        before, by = state.get("best_step"), state.get("best_by") or self._by  # older states do not name it
        if self.train.best is None:
            told = f"resumed without train.best: the final model is that of the last step, not of the best ({before})"
            return [] if before is None else [told]
        if by != self._by:
            return [f"resumed with train.best {' '.join(self._by)}, not {' '.join(by)}: only later steps can be best"]
        self.best_step, self.best = before, state.get("best")
        self.misses = state.get("misses", 0)
        spent = f"{self.misses} evaluations without a better {self.train.best}"
        told = f"{spent}: patience ({self.train.patience}) has run out; to train longer, raise --train.patience"
        return [told] if self.over else []

    @property
    def _by(self) -> list[str]:
        """The criterion for the best step; empty if there is none."""
        return [] if self.train.best is None else [self.train.best_is, self.train.best]
