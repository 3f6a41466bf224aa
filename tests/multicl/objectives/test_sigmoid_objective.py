from __future__ import annotations

import math

import pytest
import torch

from multicl import InputError, Sigmoid
from multicl.distributed import World
from multicl.functional import sigmoid_loss
from multicl.types import Context, Embedded


def view(seed: int) -> Embedded:
    z = torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))
    return Embedded(z, torch.arange(6), torch.arange(6))


@pytest.mark.parametrize("symmetric", [False, True])
def test_begins_at_the_papers_scale_and_bias_and_learns_both(symmetric: bool) -> None:
    a, b = view(0), view(1)
    module = Sigmoid().build((4, 4))
    values = module(a, b, Context(World(), symmetric=symmetric))
    torch.testing.assert_close(values["loss"], sigmoid_loss(a.z, b.z, 10.0, -10.0))
    assert values["bias"].item() == -10
    assert {name: list(p.shape) for name, p in module.named_parameters()} == {"log_scale": [1], "bias": [1]}
    values["loss"].backward()
    assert all(p.grad is not None and p.grad.abs() > 0 for p in module.parameters())


def test_may_be_fixed_and_take_dot_products() -> None:
    a, b = view(0), view(1)
    module = Sigmoid(0.5, bias=-3.0, learnable=False, similarity="dot").build((4, 4))
    assert not list(module.parameters())
    loss = module(a, b, Context(World()))["loss"]
    torch.testing.assert_close(loss, sigmoid_loss(a.z, b.z, 2.0, -3.0, similarity="dot"))


def test_a_bias_must_be_finite() -> None:
    with pytest.raises(InputError, match="bias must be finite, got nan"):
        Sigmoid(bias=math.nan)
