"""The form for small batches against the plain form of the op."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize
from watched import Watched

from multicl.ops.plain import contrast
from multicl.ops.relation import Relation, Side
from multicl.ops.small import LARGEST, is_small, labelled_loss, paired_loss, paired_sigmoid
from multicl.ops.unit import unit


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 9), d=st.integers(1, 6), seed=st.integers(0, 99), scale=st.floats(0.1, 40),
    how=st.sampled_from(["two views", "one direction", "both directions"]),
)  # fmt: skip
def test_values_and_gradients_are_those_of_the_plain_form(n: int, d: int, seed: int, scale: float, how: str) -> None:
    g = torch.Generator().manual_seed(seed)
    rows = 2 * n if how == "two views" else n
    a, b = (torch.randn(rows, d, dtype=torch.float64, generator=g).requires_grad_() for _ in range(2))
    s = torch.tensor([scale], dtype=torch.float64, requires_grad=True)
    row = torch.arange(n).repeat(rows // n)
    keys = None if how == "two views" else b
    side = Side(row, row)
    units = unit(a), None if keys is None else unit(keys)
    stats = contrast(*units, s, Relation(side, side), both=how == "both directions")
    directions = [stats.a] if stats.b is None else [stats.a, stats.b]
    wanted = torch.stack([(sums.lse[0] - sums.positive).mean() for sums in directions]).mean()
    found = paired_loss(a, keys, s, both=how == "both directions")
    torch.testing.assert_close(found, wanted)
    inputs = [z for z in (a, keys, s) if z is not None]
    for mine, theirs in zip(torch.autograd.grad(found, inputs), torch.autograd.grad(wanted, inputs), strict=True):
        torch.testing.assert_close(mine, theirs)


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(-2, 3), min_size=1, max_size=9), d=st.integers(1, 6), seed=st.integers(0, 99),
    scale=st.floats(0.1, 40), zero=st.booleans(),
)  # fmt: skip
def test_labelled_values_and_gradients_are_those_of_the_plain_form(
    labels: list[int], d: int, seed: int, scale: float, zero: bool
) -> None:
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(len(labels), d, dtype=torch.float64, generator=g)
    z[-1] *= not zero
    s = torch.tensor([scale], dtype=torch.float64, requires_grad=True)
    side = Side(torch.arange(len(labels)), torch.tensor(labels))
    stats = contrast(unit(z.requires_grad_()), None, s, Relation(side, side)).a
    rows = (stats.lse[0] - stats.positive / stats.positives.clamp(min=1)).masked_fill(~stats.valid, 0.0)
    wanted = rows.sum() / stats.valid.sum().clamp(min=1)
    found = labelled_loss(z, torch.tensor(labels), s)
    torch.testing.assert_close(found, wanted)
    for mine, theirs in zip(*(torch.autograd.grad(3 * loss, (z, s)) for loss in (found, wanted)), strict=True):
        torch.testing.assert_close(mine, theirs)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 9), d=st.integers(1, 6), seed=st.integers(0, 99), scale=st.floats(0.1, 100),
    bias=st.floats(-20, 20),
)  # fmt: skip
def test_the_sigmoid_loss_is_its_formula(n: int, d: int, seed: int, scale: float, bias: float) -> None:
    g = torch.Generator().manual_seed(seed)
    a, b = (normalize(torch.randn(n, d, dtype=torch.float64, generator=g), dim=1).requires_grad_() for _ in range(2))
    s, t = (torch.tensor([x], dtype=torch.float64, requires_grad=True) for x in (scale, bias))
    wanted = -logsigmoid((2 * torch.eye(n) - 1) * (s * (a @ b.T) + t)).sum() / n
    found = paired_sigmoid(a, b, s, t)
    torch.testing.assert_close(found, wanted)
    for mine, theirs in zip(*(torch.autograd.grad(loss, (a, b, s, t)) for loss in (found, wanted)), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("loss", ["one", "both", "sigmoid"])
def test_keys_that_want_no_gradient_cost_no_product(loss: str) -> None:
    g = torch.Generator().manual_seed(0)
    a, b = (normalize(torch.randn(6, 4, generator=g), dim=1) for _ in range(2))
    a.requires_grad_()
    s, t = torch.full((1,), 5.0), torch.zeros(1)
    grads = []
    for keys in (b.clone().requires_grad_(), b):
        with Watched() as watch:
            value = paired_sigmoid(a, keys, s, t) if loss == "sigmoid" else paired_loss(a, keys, s, loss == "both")
            grads.append(torch.autograd.grad(value, a)[0])
        assert watch.products == 2 + keys.requires_grad
    assert torch.equal(*grads)


def test_what_is_small() -> None:
    one = torch.ones(1)
    assert is_small(1024, one)
    assert LARGEST < 1025**2
    assert not is_small(1025, one)
    assert not is_small(1025, torch.ones(2))  # large ones are told without a look at the scale
    assert not is_small(0, one)
    assert is_small(9, 40 * one)
    assert not is_small(9, 41 * one)  # exponentials would leave float32's range
    assert not is_small(9, torch.nan * one)


@pytest.mark.parametrize("how", ["symmetric", "both", "one"])
def test_a_loss_near_zero_keeps_its_digits(how: str) -> None:
    z = normalize(torch.randn(64, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), dim=1)

    def asked(kind: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        x, scale = z.to(kind).requires_grad_(), torch.full((1,), 33, dtype=kind, requires_grad=True)
        keys = x.detach()
        loss = paired_loss(*((torch.cat([x, keys]), None) if how == "symmetric" else (x, keys)), scale, how == "both")
        return loss, *torch.autograd.grad(loss, (x, scale))

    exact, found = asked(torch.float64), asked(torch.float32)
    assert 0 < exact[0] < 1e-6
    torch.testing.assert_close(found[0].double(), exact[0], rtol=1e-4, atol=0)
    for mine, theirs in zip(found[1:], exact[1:], strict=True):
        assert (mine - theirs).norm() < 1e-4 * theirs.norm()


def test_labelled_rows_of_one_positive_keep_their_digits() -> None:
    g = torch.Generator().manual_seed(0)
    x, noise = (torch.randn(32, 32, dtype=torch.float64, generator=g) for _ in range(2))
    labels = torch.arange(32).repeat(2)  # as of two views

    def asked(kind: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        z = normalize(torch.cat([x, x + 0.001 * noise]), dim=1).to(kind).requires_grad_()
        scale = torch.full((1,), 33, dtype=kind, requires_grad=True)
        loss = labelled_loss(z, labels, scale)
        return loss, *torch.autograd.grad(loss, (z, scale))

    exact, found = asked(torch.float64), asked(torch.float32)
    assert 0 < exact[0] < 1e-6
    for mine, theirs in zip(found, exact, strict=True):
        assert (mine - theirs).norm() < 1e-4 * theirs.norm()


def test_it_cannot_be_differentiated_twice_and_says_so() -> None:
    z = normalize(torch.randn(4, 3), dim=1).requires_grad_()
    one = torch.ones(1)
    labelled = labelled_loss(z, torch.tensor([0, 0, 1, 1]), one)
    paired = paired_loss(z, None, one), paired_loss(z, z, one, both=False), paired_sigmoid(z, z, one, one)
    for loss in (*paired, labelled):
        (grad,) = torch.autograd.grad(loss, z, create_graph=True)
        with pytest.raises(RuntimeError, match="cannot be differentiated again"):
            grad.sum().backward()
