from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Vectors
from transformers import get_linear_schedule_with_warmup

from multicl.objectives import InfoNCE
from multicl.pairs import Pair
from multicl.towers import Head, Towers
from multicl.training.optim import Optim, build_optimizer, lr_factor, set_lr, too_fast
from multicl.types import InputError


def towers() -> Towers:
    pair = Pair("a", "b", InfoNCE(learnable=True))
    return Towers({"a": Vectors(), "b": Vectors(width=5)}, [pair], Head(norm="layer", dim=4))


def groups(optimizer: torch.optim.Optimizer, module: Towers) -> dict[str, dict[str, Any]]:
    """Parameter's name -> the group it is in."""
    names = {p: name for name, p in module.named_parameters()}
    return {names[p]: group for group in optimizer.param_groups for p in group["params"]}


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_biases_norms_and_temperatures_have_no_weight_decay(name: Any) -> None:
    module = towers()
    found = groups(build_optimizer(module, Optim(name=name, weight_decay=0.3), 1e-2), module)
    assert found.keys() == dict(module.named_parameters()).keys()
    decayed = {name for name, group in found.items() if group["weight_decay"] == 0.3}
    spared = {name for name, group in found.items() if group["weight_decay"] == 0.0}
    assert decayed | spared == found.keys()
    assert "encoders.a.net.0.weight" in decayed
    assert {"encoders.a.net.0.bias", "objectives.a-b.log_scale", "heads.a/joint.1.weight"} <= spared
    assert all(name.endswith(".weight") for name in decayed)


def test_a_tower_has_its_own_rate_and_its_head_the_common_one() -> None:
    module = towers()
    optimizer = build_optimizer(module, Optim(tower_lr={"a": 0.1}), 1e-2)
    for lr in (1e-2, 4e-3):
        set_lr(optimizer, lr)
        for name, group in groups(optimizer, module).items():
            assert group["lr"] == pytest.approx(lr * (0.1 if name.startswith("encoders.a.") else 1.0))


def test_a_factor_of_0_freezes_the_encoder_alone() -> None:
    module = towers()
    found = groups(build_optimizer(module, Optim(tower_lr={"a": 0.0}), 1e-2), module)
    frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
    assert frozen == {name for name in dict(module.named_parameters()) if name.startswith("encoders.a.")}
    assert frozen.isdisjoint(found)
    assert any(name.startswith("heads.a/") for name in found)


def test_a_node_stands_for_its_tower_whatever_that_is_called() -> None:
    """A recipe's own factor outlives a name that the user gives the tower."""
    module = Towers({"a": Vectors(tower="ears"), "b": Vectors(width=5)}, [Pair("a", "b")], Head(dim=4))
    for factors in ({"a": 0.1}, {"ears": 0.1}, {"a": 0.1, "ears": 0.1}):
        for name, group in groups(build_optimizer(module, Optim(tower_lr=factors), 1e-2), module).items():
            assert group["factor"] == (0.1 if name.startswith("encoders.ears.") else 1.0)
    with pytest.raises(
        InputError, match=r"tower_lr names \['a', 'ears'\], which are the same tower, 'ears': give it a single"
    ):
        build_optimizer(module, Optim(tower_lr={"a": 0.1, "ears": 0.2}), 1e-2)


def test_trained_weights_that_move_fast_are_told_of() -> None:
    class Trained(Vectors):
        tuned = True

    nodes = {"a": Trained(tower="both"), "b": Trained(tower="both"), "c": Vectors()}
    module = Towers(nodes, [Pair("a", "b"), Pair("b", "c")], Head(dim=4))
    (told,) = too_fast(module, Optim(), 1e-3)
    assert told.startswith("both: a learning rate of 0.001 may undo what its pretrained weights know")
    assert not too_fast(module, Optim(), 1e-4)
    assert not too_fast(module, Optim(tower_lr={"a": 0.05}), 1e-3)
    assert not too_fast(module, Optim(name="sgd"), 0.1)
    module.encoders["both"].requires_grad_(False)
    assert not too_fast(module, Optim(), 1e-3)


def test_an_unknown_tower_is_named() -> None:
    with pytest.raises(InputError, match=r"optim\.tower_lr names \['c'\], but the towers are \['a', 'b'\]"):
        build_optimizer(towers(), Optim(tower_lr={"c": 1.0}), 1e-2)


def test_a_run_with_nothing_to_train_is_refused() -> None:
    module = Towers({"a": Vectors()}, [Pair("a", "a")], Head(layers=0))
    with pytest.raises(InputError, match="nothing is left to train"):
        build_optimizer(module, Optim(tower_lr={"a": 0.0}), 1e-2)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"weight_decay": -1.0}, "optim.weight_decay"),
        ({"warmup": -0.1}, "optim.warmup"),
        ({"warmup": float("nan")}, "optim.warmup"),
        ({"weight_decay": float("inf")}, "optim.weight_decay"),
        ({"tower_lr": {"a": float("inf")}}, "optim.tower_lr"),
        ({"momentum": 1.0}, r"optim\.momentum must be in \[0, 1\), got 1\.0"),
        ({"beta2": -0.1}, "optim.beta2"),
        ({"clip": 0.0}, r"optim\.clip must be above 0"),
        ({"tower_lr": {"a": -1.0}}, r"optim\.tower_lr of 'a' must be 0 or more, got -1\.0"),
    ],
)
def test_settings_out_of_range_are_refused(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Optim(**bad)


steps_of = st.integers(1, 300)
warmups = st.sampled_from([0.0, 0.05, 0.5, 0.99, 1.0, 7.0, 1000.0])


@settings(deadline=None, max_examples=25)
@given(steps_of, warmups, st.sampled_from(["cosine", "linear"]))
def test_the_rate_rises_then_falls_within_its_bounds(steps: int, warmup: float, schedule: Any) -> None:
    falling = Optim(warmup=warmup, schedule=schedule)
    factors = [lr_factor(falling, step, steps) for step in range(steps)]
    peak = factors.index(max(factors))
    assert all(0 < f <= 1 for f in factors)
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert warmup > steps or lr_factor(falling, steps, steps) == 0.0
    flat = [lr_factor(Optim(warmup=warmup, schedule="constant"), step, steps) for step in range(steps)]
    assert flat == sorted(flat)
    assert all(0 < f <= 1 for f in flat)


def test_the_line_is_that_of_transformers() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    theirs = get_linear_schedule_with_warmup(torch.optim.SGD([parameter], lr=1.0), 10, 100).lr_lambdas[0]
    ours = Optim(warmup=10, schedule="linear")
    assert [lr_factor(ours, step, 100) for step in range(10, 101)] == pytest.approx(list(map(theirs, range(10, 101))))


def test_the_schedule_at_its_edges() -> None:
    plain = Optim(warmup=0)
    assert lr_factor(plain, 0, 100) == 1.0
    assert lr_factor(plain, 50, 100) == pytest.approx(0.5)
    assert lr_factor(replace(plain, schedule="constant"), 99, 100) == 1.0
    ten = Optim(warmup=10)  # so many steps, linear from 0, all of the rate at the eleventh
    assert [lr_factor(ten, s, 100) for s in (0, 4, 9, 10)] == pytest.approx([1 / 11, 5 / 11, 10 / 11, 1.0])
    assert lr_factor(Optim(warmup=0.1), 4, 100) == lr_factor(ten, 4, 100)
