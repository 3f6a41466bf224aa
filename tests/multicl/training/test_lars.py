"""LARS against its formula, written out in float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from toys import Vectors

from multicl.pairs import Pair
from multicl.towers import Head, Towers
from multicl.training.lars import LARS
from multicl.training.optim import Optim, build_optimizer


def plain(w: torch.Tensor, grads: list[torch.Tensor], lr: float, decay: float, adapts: bool) -> torch.Tensor:
    """A weight after these gradients: momentum 0.9, trust 0.001."""
    w, v = w.double(), torch.zeros_like(w, dtype=torch.float64)
    for given in grads:
        slope, size = given.double(), w.norm()
        g = slope + decay * w
        if adapts and size > 0 and slope.norm() > 0:
            g = 1e-3 * size / (slope.norm() + decay * size) * g
        v = 0.9 * v + g
        w = w - lr * v
    return w


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("adapts", [True, False])
@pytest.mark.parametrize("first", ["random", "zero"])
def test_it_is_the_formula(decay: float, adapts: bool, first: str) -> None:
    torch.manual_seed(0)
    w = torch.randn(5, 3) if first == "random" else torch.zeros(5, 3)
    grads = [torch.randn(5, 3), torch.zeros(5, 3), torch.randn(5, 3)]
    p = torch.nn.Parameter(w.clone())
    optimizer = LARS([p], lr=0.3, weight_decay=decay, adapts=adapts)
    for grad in grads:
        p.grad = grad.clone()
        optimizer.step()
        torch.testing.assert_close(p.grad, grad)  # left as it was
    torch.testing.assert_close(p.detach().double(), plain(w, grads, 0.3, decay, adapts), atol=1e-6, rtol=1e-5)


def test_it_goes_on_from_its_state() -> None:
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.randn(4, 4))
    first = LARS([p], lr=0.1)
    p.grad = torch.randn(4, 4)
    first.step()
    other = torch.nn.Parameter(p.detach().clone())
    second = LARS([other], lr=0.1)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for parameter, optimizer in ((p, first), (other, second)):
        parameter.grad = torch.ones(4, 4)
        optimizer.step()
    assert torch.equal(p, other)


def test_biases_norms_and_temperatures_are_not_adapted() -> None:
    module = Towers({"a": Vectors()}, [Pair("a", "a")], Head(norm="layer", dim=4))
    optimizer: Any = build_optimizer(module, Optim(name="lars", weight_decay=0.0), 1e-2)
    assert isinstance(optimizer, LARS)
    adapted = {p for group in optimizer.param_groups if group["adapts"] for p in group["params"]}
    assert adapted == {p for p in module.parameters() if p.ndim > 1}
    assert len(optimizer.param_groups) == 2
