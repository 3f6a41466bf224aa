"""Warnings come where embeddings collapse, and never in a run that is well."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import Vectors, rows

from multicl import Head, InfoNCE, Optim, Pair, Train, Trainer
from multicl.running.watch import KEPT, Watch
from multicl.training.monitors import Agreement, Figures, geometry
from multicl.types import Context, Embedded

WELL = {"loss": 1.0, "grad_norm": 1.0, "a-b/loss": 1.0, "a-b/confidence": 0.5, "a-b/temperature": 0.07}
AGREE = Agreement({"accuracy": 0.9}, 0.5, 128, 128, False)


def randn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def told(
    embeddings: Callable[[int], Tensor] = lambda step: randn(128, 32, seed=step),
    row: Callable[[int], dict[str, float]] = lambda step: {},
    pair: Agreement = AGREE,
    steps: int = 1000,
    every: int = 10,
    **options: Any,
) -> dict[int, list[str]]:
    """Step -> warnings, of a run with these embeddings and metrics."""
    term = Pair("a", "b", InfoNCE(learnable=True))
    watch, found = Watch([term], **options), {}
    for step in (1, *range(every, steps + 1, every)):
        figures = Figures({"a-b": pair}, {"a.joint": geometry(embeddings(step))})
        if words := watch.look(step, {**WELL, **figures.flat(), **row(step)}, figures):
            found[step] = words
    return found


def point(step: int) -> Tensor:
    return torch.ones(128, 32) + 1e-3 * randn(128, 32, seed=step)


def test_a_run_that_is_well_is_not_talked_into() -> None:
    assert told() == {}
    assert told(every=1, steps=300) == {}
    assert told(lambda step: randn(6, 32, seed=step)) == {}  # a small batch


def test_untrained_towers_that_point_one_way_have_time_to_learn() -> None:
    """They begin at nearly one point and leave it slowly; or the learning rate has yet to rise."""
    assert told(lambda step: torch.ones(128, 32) + (step / 1000) * randn(128, 32, seed=step)) == {}
    assert told(point, steps=100) == {}
    assert told(point, steps=1000, warmup=1000) == {}


def test_embeddings_that_never_leave_one_point() -> None:
    found = told(point)
    first = min(found)
    assert 100 <= first <= 160
    (words,) = found[first]
    assert words.startswith(
        "a.joint: the embeddings have collapsed: they are almost the same for every row (uniformity -0.0"
    )
    assert "Try a lower learning rate" in words


def test_embeddings_that_fall_back_to_one_point_are_seen_at_once() -> None:
    found = told(lambda step: point(step) if step > 30 else randn(128, 32, seed=step), steps=200)
    assert [step for step, _ in found.items()] == [90, 180]
    assert "collapsed" in found[90][0]


def test_warnings_are_said_now_and_then() -> None:
    first, *later = told(point, steps=3000)
    assert later == [first * 2, first * 4, first * 8, first * 16][: len(later)]
    assert len(later) >= 3


def few(step: int, left: int) -> Tensor:
    return randn(128, left, seed=step) @ randn(left, 32, seed=999)


def test_dimensional_collapse() -> None:
    found = told(lambda step: randn(128, 32, seed=step) if step < 200 else few(step, 1))
    (words,) = found[min(found)]
    assert 250 <= min(found) <= 260
    assert "use 1.0 of 32 possible directions (effective rank), down from" in words
    assert told(lambda step: few(step, 1)) == {}  # as narrow as its data ever since


def test_labels_that_draw_classes_together_are_no_collapse() -> None:
    term = Pair("a", "b", ids="label")
    watch = Watch([term])
    for step in range(10, 1000, 10):
        z = randn(128, 32, seed=step) if step < 200 else randn(3, 32, seed=999)[torch.arange(128) % 3]
        figures = Figures({}, {"a.joint": geometry(z + 0.01 * randn(128, 32, seed=step), distinct=3)})
        assert watch.look(step, figures.flat(), figures) == []


def test_dead_dimensions() -> None:
    def half(step: int) -> Tensor:
        z = randn(128, 32, seed=step)
        z[:, :20] = 0.1
        return z

    (words,) = next(iter(told(half).values()))
    assert "62% of the dimensions are dead: they hardly vary between rows" in words
    assert told(half, steps=100) == {}


def test_a_loss_that_stays_at_chance() -> None:
    def chance(step: int) -> dict[str, float]:
        return {"a-b/loss": math.log(128) + 0.01 * (step % 3)}

    guesses = dataclasses.replace(AGREE, accuracy={"accuracy": 1 / 128})
    found = told(row=chance, pair=guesses)
    assert 200 <= min(found) <= 250
    assert "the loss is 4.8" in found[min(found)][0]
    assert "guessing among 128 keys gives 4.852 (accuracy 0.8%)" in found[min(found)][0]
    assert told(row=chance) == {}  # accuracy 90 %: a high temperature, not chance
    assert told(row=lambda step: {"a-b/loss": math.log(128) - 2e-4 * step}, pair=guesses) == {}  # it falls
    worse = told(row=lambda step: {"a-b/loss": 6.0}, pair=guesses)
    assert "the loss is 6.000" in next(iter(worse.values()))[0]
    assert told(row=chance, pair=dataclasses.replace(guesses, rows=256)) == {}
    half = dataclasses.replace(guesses, rows=64)
    assert told(row=chance, pair=half, world=2).keys() == found.keys()
    symmetric = dataclasses.replace(guesses, rows=64, within=True)
    assert "among 127 keys" in next(iter(told(row=chance, pair=symmetric).values()))[0]


def test_a_temperature_at_its_floor() -> None:
    found = told(row=lambda step: {"a-b/temperature": max(0.01, 0.07 - step / 5000)}, steps=400)
    ((step, (words,)),) = found.items()
    assert step == 350
    assert "a-b: the temperature has fallen to its lower limit, 0.01" in words
    assert told(row=lambda step: {"a-b/temperature": 0.0101}) == {}


def test_gradients() -> None:
    (words,) = next(iter(told(row=lambda step: {"grad_norm": 0.0}).values()))
    assert "the gradient is zero (norm 0.0e+00) while the loss is 1.000" in words
    assert told(row=lambda step: {"grad_norm": 0.0, "loss": 1e-4}) == {}  # nothing is left to learn
    (words,) = next(iter(told(row=lambda step: {"grad_norm": math.inf}).values()))
    assert "the gradient's norm is inf on every logged step" in words
    assert told(row=lambda step: {"grad_norm": math.inf if step % 40 < 10 else 1.0}) == {}  # fp16's scaler, at work
    late = {"grad_norm": 50.0, "loss": 3.0}
    (words,) = next(iter(told(row=lambda step: late if step > 500 else {}).values()))
    assert "its norm is 50, 50 times what it was, and the loss has risen from 1.000 to 3.000" in words
    assert told(row=lambda step: late if step == 500 else {}) == {}  # a spike
    assert told(row=lambda step: {"grad_norm": 50.0} if step > 500 else {}) == {}
    assert told(row=lambda step: late if step < 100 else {}) == {}  # it begins large
    assert told(row=lambda step: {"grad_norm": 0.0, "loss": 0.0}) == {}  # no rows: `multicl.training.unseen` says it
    left_out = {"loss": math.nan, "a-b/loss": math.nan, "grad_norm": math.nan}
    assert told(row=lambda step: left_out if step % 30 == 0 else {}) == {}


def test_runs_without_clipping_or_pairs_without_figures() -> None:
    watch = Watch([Pair("a", "b")])
    for step in range(1, KEPT + 100):
        assert watch.look(step, {"loss": 1.0}, Figures({}, {})) == []
    assert max(map(len, watch.past.values())) == KEPT


@dataclass(frozen=True)
class Pull:
    """An objective without negatives: it collapses, or stretches all embeddings along one line."""

    line: bool = False

    def build(self, dims: tuple[int, int]) -> nn.Module:
        return Pulled(self.line)


class Pulled(nn.Module):
    def __init__(self, line: bool) -> None:
        super().__init__()
        self.line = line

    def forward(self, a: Embedded, b: Embedded, context: Context) -> dict[str, Tensor]:
        x, y = (nn.functional.normalize(v.z) for v in (a, b))
        apart = (x - y).square().sum(1)
        away = (x - x.mean(0)).square()  # [B, D]
        apart = apart + (away[:, 1:].sum(1) - 4 * away[:, 0] if self.line else away.sum(1))
        return {"loss": context.world.mean(apart, torch.ones(len(apart), dtype=torch.bool))}


def warnings(
    run: Path, objective: Any, steps: int = 200, every: int = 10, noise: float = 0.3, lr: float = 3e-3
) -> list[tuple[int, str]]:
    train = Train(batch_size=24, steps=steps, lr=lr, log_every=every, checkpoint_every=0)
    nodes, head = {"a": Vectors(size=12, width=32, noise=noise)}, Head(dim=32)
    data = rows(512, size=12)
    Trainer(nodes, [Pair("a", "a", objective)], data, train=train, run=run, head=head, optim=Optim(warmup=20)).fit()
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["warning"]) for row in found if "warning" in row]


@pytest.mark.parametrize(("temperature", "every"), [(0.07, 10), (0.5, 1)])
def test_a_simclr_run_on_synthetic_data_has_no_warning(
    tmp_path: Path, temperature: float, every: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert warnings(tmp_path / "run", InfoNCE(temperature), every=every) == []
    assert "warning" not in capsys.readouterr().err
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["a-a/accuracy"] > 0.5
    assert last["a.joint/uniformity"] < -2


def test_a_run_without_negatives_is_told_that_it_collapses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step, words = warnings(tmp_path / "run", Pull(), 170)[0]
    assert "a.joint: the embeddings have collapsed" in words
    assert f"warning, step {step}: a.joint: the embeddings have collapsed" in capsys.readouterr().err


def test_a_run_that_keeps_one_direction_is_told_so(tmp_path: Path) -> None:
    assert any("dimensional collapse" in words for _, words in warnings(tmp_path / "run", Pull(line=True)))


def test_a_run_that_learns_nothing_is_told_so(tmp_path: Path) -> None:
    step, words = warnings(tmp_path / "run", InfoNCE(1.0), 220, noise=30.0, lr=1e-9)[0]
    assert step >= 200
    assert re.search(r"nothing is learnt yet: the loss is 3\.\d\d\d, and guessing among 47 keys gives 3\.850", words)
