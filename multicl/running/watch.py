"""Warnings about a run's figures: what is wrong, the figure, and what to try.

A fault is reported once it has lasted for at least `SEEN` logged rows and `STEPS` steps, and again only at twice the
step of the last report. What may just be a slow start is reported neither during warmup nor within the first
2 * `STEPS` steps. A resumed run is watched afresh.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, median, pstdev

from multicl.objectives.temperature import LOWEST_LEARNT
from multicl.pairs import Pair
from multicl.training.monitors import Agreement, Figures, Geometry

SEEN = 5
STEPS = 50
KEPT = 1000  # logged values remembered per figure
ONE_POINT = -0.04  # uniformity of unit vectors whose mean cosine is 0.99


class Watch:
    """Checks every logged row for faults.

    Args:
        terms: the pairs of the graph. warmup: number of warmup steps. world: number of ranks.
    """

    def __init__(self, terms: Sequence[Pair], warmup: float = 0, world: int = 1) -> None:
        self.terms, self.warmup, self.world = list(terms), warmup, world
        self.began: int | None = None
        self.past: dict[str, deque[tuple[int, float]]] = defaultdict(lambda: deque(maxlen=KEPT))
        self.said: dict[tuple[str, str], int] = {}

    def look(self, step: int, row: Mapping[str, float], figures: Figures) -> list[str]:
        """The warnings for a logged step, in plain words.

        Args:
            row: the step's metrics, named as in metrics.jsonl. figures: the monitors' figures, which `row` includes.
        """
        self.began = step if self.began is None else self.began
        for key, value in row.items():
            if math.isfinite(value) or key == "grad_norm":
                self.past[key].append((step, value))
        found: list[str] = []
        for kind, subject, words in self._faults(step, row, figures):
            last = self.said.get((kind, subject))
            if last is None or step >= 2 * last:
                self.said[kind, subject] = step
                found.append(words)
        return found

    def _faults(self, step: int, row: Mapping[str, float], figures: Figures) -> Iterator[tuple[str, str, str]]:
        late = step > self.warmup and step - (self.began or 0) >= 2 * STEPS
        for name, seen in figures.nodes.items():
            if seen.uniformity > ONE_POINT:  # the rank and dimensions of a collapsed space mean nothing
                fault = self._collapsed(name, late)
            else:
                fault = self._narrow(name, seen) or self._dead(name, late)
            if fault:
                yield fault[0], name, f"{name}: {fault[1]}"
        for pair in self.terms:
            name = pair.name
            if late and name in figures.pairs and (words := self._chance(pair, row, figures.pairs[name])):
                yield "chance", name, f"{name}: {words}"
            if getattr(pair.objective, "learnable", False) and (words := self._floor(f"{name}/temperature")):
                yield "floor", name, f"{name}: {words}"
        if words := self._gradient():
            yield "gradient", "", words

    def _collapsed(self, name: str, late: bool) -> tuple[str, str] | None:
        """The embeddings fell back to nearly a point, or never left it despite training, and are not spreading."""
        key = f"{name}/uniformity"
        best = min(value for _, value in self.past[key])
        now = self._lasting(key)
        if not now or min(now) < ONE_POINT or not (best < -0.5 or late):
            return None
        if now[-1] < 1.25 * now[0] and now[-1] < now[0] + ONE_POINT / 10:
            return None
        return "collapse", (
            f"the embeddings have collapsed: they are almost the same for every row (uniformity {now[-1]:.4f}; 0 is a "
            "single point, about -4 an even spread). Try a lower learning rate, a longer warm-up or a larger batch, "
            "and check that its pairs have negatives"
        )

    def _narrow(self, name: str, seen: Geometry) -> tuple[str, str] | None:
        """The effective rank is low, and has fallen to half of its best or less."""
        key = f"{name}/effective_rank"
        best = max(value for _, value in self.past[key])
        now = self._lasting(key)
        if not now or seen.most < 8 or max(now) > max(1.5, 0.05 * seen.most) or max(now) > 0.5 * best:
            return None
        return "narrow", (
            f"the embeddings use {now[-1]:.1f} of {seen.most} possible directions (effective rank), down from "
            f"{best:.1f}: dimensional collapse, rows hardly differ. Try a lower learning rate or weight decay, "
            "stronger augmentation, or a head with another layer or norm"
        )

    def _dead(self, name: str, late: bool) -> tuple[str, str] | None:
        """At least half of the dimensions are dead, and their number is not falling."""
        now = self._lasting(f"{name}/dead_dimensions")
        if not now or not late or min(now) < 0.5 or now[-1] < now[0]:
            return None
        return "dead", (
            f"{now[-1]:.0%} of the dimensions are dead: they hardly vary between rows. Try a lower learning rate, less "
            "weight decay, or a narrower head (head.dim)"
        )

    def _chance(self, pair: Pair, row: Mapping[str, float], seen: Agreement) -> str | None:
        """The loss is no better than guessing and does not fall; for soft-max objectives, which log a confidence."""
        keys = self.world * seen.rows * (2 if seen.within else 1) - seen.within + pair.queue
        now, hits = self._lasting(f"{pair.name}/loss", 4), self._lasting(f"{pair.name}/accuracy", 4)
        if f"{pair.name}/confidence" not in row or not now or not hits or keys < 3:
            return None
        chance, accuracy, half = math.log(keys), fmean(hits), len(now) // 2
        if accuracy > 3 / seen.keys or fmean(now) < 0.98 * chance:
            return None
        fall, noise = fmean(now[:half]) - fmean(now[half:]), pstdev(now) / math.sqrt(half)
        if fall > max(2 * noise, 0.001 * chance):  # slow is not stuck
            return None
        return (
            f"nothing is learnt yet: the loss is {now[-1]:.3f}, and guessing among {keys} keys gives "
            f"{chance:.3f} (accuracy {accuracy:.1%}). Try another learning rate, higher or lower, or a lower "
            "temperature, and check that the cells of one row belong together"
        )

    def _floor(self, key: str) -> str | None:
        now = self._lasting(key)
        if not now or max(now) > 1.001 * LOWEST_LEARNT:
            return None
        return (
            f"the temperature has fallen to its lower limit, {LOWEST_LEARNT}. That is common late in a long run; "
            "early on it means that negatives are too easy or too few. Try a fixed temperature (learnable false), a "
            "larger batch or a lower learning rate"
        )

    def _gradient(self) -> str | None:
        now, losses = self._lasting("grad_norm"), self._lasting("loss")
        if not now or not losses:
            return None
        if not any(map(math.isfinite, now)):
            return (
                f"the gradient's norm is {now[-1]} on every logged step: nothing is learnt. Try bf16 in place of fp16, "
                "or no mixed precision, and a lower learning rate"
            )
        if not all(map(math.isfinite, now)):
            return None
        if max(now) < 1e-10 and min(losses) > 0.01:
            return (
                f"the gradient is zero (norm {now[-1]:.1e}) while the loss is {losses[-1]:.3f}: nothing is learnt any "
                "more. Try a lower learning rate (all units may be dead), and check that the towers are not frozen"
            )
        norms = [value for _, value in self.past["grad_norm"]][: -len(now)]
        before = [value for _, value in self.past["loss"]][: -len(losses)]
        if len(norms) < SEEN or len(before) < SEEN:
            return None
        norm, loss = median(norms), median(before)
        if min(now) <= 20 * norm or min(losses) <= loss + 0.1 * abs(loss):
            return None
        return (
            f"the gradient explodes: its norm is {now[-1]:.3g}, {now[-1] / max(norm, 1e-30):.0f} times what it was, "
            f"and the loss has risen from {loss:.3f} to {losses[-1]:.3f}. Try a lower learning rate, a longer warm-up "
            "or a tighter optim.clip, or a higher temperature"
        )

    def _lasting(self, key: str, times: int = 1) -> list[float] | None:
        """The latest values spanning `times` the rows and steps that a fault must last; None if there are too few."""
        past = list(self.past[key])
        for count in range(times * SEEN, len(past) + 1):
            if past[-1][0] - past[-count][0] >= times * STEPS:
                return [value for _, value in past[-count:]]
        return None
