from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from watched import Watched

from multicl.ops import blocks
from multicl.ops.contrast import Relation, Side
from multicl.ops.sigmoid import sigmoid_loss


def slow(a: Tensor, b: Tensor, scale: Tensor, bias: Tensor, relation: Relation) -> Tensor:
    """The definition, a pair at a time."""
    total = 0.0 * (a.sum() + b.sum() + scale.sum() + bias.sum())
    for i in range(len(a)):
        for j in range(len(b)):
            same_row = relation.a.row[i] == relation.b.row[j]
            same_id = relation.a.id[i] == relation.b.id[j]
            if same_id and not same_row and relation.equal_ids == "ignore":
                continue
            y = 1 if same_row or same_id else -1
            total = total + torch.log1p(torch.exp(-y * (scale * (a[i] @ b[j]) + bias))).sum()
    return total / max(len(a), 1)


def sides(na: int, nb: int, g: torch.Generator, equal_ids: Literal["positive", "ignore"]) -> Relation:
    """Random rows of ten, with ids that repeat."""
    row_a, row_b = torch.randperm(10, generator=g)[:na], torch.randperm(10, generator=g)[:nb]
    id_of = torch.randint(5, (10,), generator=g)
    return Relation(Side(row_a, id_of[row_a]), Side(row_b, id_of[row_b]), equal_ids)


def draw(n: int, d: int, g: torch.Generator) -> Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=g).requires_grad_()


@settings(max_examples=30, deadline=None)
@given(
    na=st.integers(0, 9),
    nb=st.integers(0, 9),
    seed=st.integers(0, 99),
    equal_ids=st.sampled_from(["positive", "ignore"]),
    tile=st.integers(1, 10),
)
def test_value_and_gradients_are_the_definition_s_at_any_tile(
    na: int, nb: int, seed: int, equal_ids: Literal["positive", "ignore"], tile: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    relation = sides(na, nb, g, equal_ids)
    scale, bias = (torch.tensor([x], dtype=torch.float64, requires_grad=True) for x in (1.7, -0.6))
    leaves = [draw(na, 3, g), draw(nb, 3, g), scale, bias]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "tile_size", lambda device: tile)
        found = sigmoid_loss(*leaves, relation)
    wanted = slow(*leaves, relation)
    torch.testing.assert_close(found, wanted)
    for got, right in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(wanted, leaves), strict=True):
        torch.testing.assert_close(got, right)


def test_gradients_are_those_of_finite_differences() -> None:
    g = torch.Generator().manual_seed(0)
    relation = sides(5, 4, g, "positive")
    scale, bias = (torch.tensor([x], dtype=torch.float64, requires_grad=True) for x in (2.0, -1.0))
    leaves = (draw(5, 3, g), draw(4, 3, g), scale, bias)
    assert torch.autograd.gradcheck(lambda *x: sigmoid_loss(*x, relation), leaves)


def inputs(n: int, d: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Relation]:
    g = torch.Generator().manual_seed(0)
    a, b = (nn.functional.normalize(torch.randn(n, d, generator=g), dim=1).to(dtype) for _ in range(2))
    side = Side(torch.arange(n), torch.arange(n))
    return a, b, Relation(side, side)


def test_no_tensor_is_larger_than_a_tile_or_the_rows() -> None:
    a, b, relation = inputs(2000, 8)
    scale, bias = (torch.tensor([x], requires_grad=True) for x in (10.0, -10.0))
    leaves = [a.requires_grad_(), b.requires_grad_(), scale, bias]
    with Watched() as largest:
        torch.autograd.grad(sigmoid_loss(*leaves, relation), leaves)
    tile = blocks.tile_size(a.device)
    assert 2000 * 8 <= largest.elements <= tile * (tile + blocks.APART) < 2000**2 / 2


def test_extreme_logits_stay_finite_and_exact() -> None:
    a, b, relation = inputs(6, 4)
    leaves = [a.requires_grad_(), (-b).requires_grad_(), torch.tensor([1000.0]), torch.tensor([500.0])]
    found = sigmoid_loss(*leaves, relation)
    exact = [x.detach().double().requires_grad_() for x in leaves]
    y = 2 * torch.eye(6, dtype=torch.float64) - 1
    wanted = nn.functional.softplus(-y * (exact[2] * exact[0] @ exact[1].T + exact[3])).sum() / 6
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
    pairs = zip(torch.autograd.grad(found, leaves[:2]), torch.autograd.grad(wanted, exact[:2]), strict=True)
    for got, right in pairs:
        torch.testing.assert_close(got.double(), right, rtol=1e-5, atol=1e-2)  # of 1000s


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_sums_are_float32_also_under_autocast(dtype: torch.dtype) -> None:
    a, b, relation = inputs(20, 8, dtype)
    scale, bias = torch.tensor([100.0]), torch.tensor([-10.0])
    with torch.autocast("cpu", torch.bfloat16):
        loss = sigmoid_loss(a, b, scale, bias, relation)
    assert loss.dtype == torch.float32
    wanted = sigmoid_loss(a.double(), b.double(), scale, bias, relation)
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-5, atol=0)


def test_it_is_not_differentiated_twice() -> None:
    a, b, relation = inputs(4, 3)
    a.requires_grad_()
    loss = sigmoid_loss(a, b, torch.ones(1), torch.zeros(1), relation)
    (grad,) = torch.autograd.grad(loss, a, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated again: it is computed in forward"):
        grad.sum().backward()


def test_without_gradients_none_are_made() -> None:
    a, b, relation = inputs(4, 3)
    a.requires_grad_()
    with torch.no_grad():
        loss = sigmoid_loss(a, b, torch.ones(1), torch.zeros(1), relation)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, sigmoid_loss(a, b, torch.ones(1), torch.zeros(1), relation).detach())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # the compiler looks at all
def test_a_compiled_model_may_use_it() -> None:
    x, y, relation = inputs(6, 4)
    model = nn.Linear(4, 3)

    def step(x: Tensor, y: Tensor) -> Tensor:
        return 2 * sigmoid_loss(model(x), model(y), torch.ones(1), torch.zeros(1), relation)

    compiled = torch.compile(step, backend="aot_eager")
    (found,) = torch.autograd.grad(compiled(x, y), model.weight)
    (wanted,) = torch.autograd.grad(step(x, y), model.weight)
    torch.testing.assert_close(found, wanted)


def test_keys_that_want_no_gradient_cost_no_product() -> None:
    a, b, relation = inputs(40, 8)
    a.requires_grad_()
    scale, bias = torch.ones(1), torch.zeros(1)
    grads = []
    for keys, products in ((b.requires_grad_(), 3), (b.detach(), 2)):
        with Watched() as watch:
            grads.append(torch.autograd.grad(sigmoid_loss(a, keys, scale, bias, relation), a)[0])
        assert watch.products == products
    assert torch.equal(*grads)
