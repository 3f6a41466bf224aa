from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from multicl.functional import co_sent
from multicl.ops import plain
from multicl.ops.contrast import Relation, Side
from multicl.ops.unit import unit


def test_unit_rows_are_differentiated_any_number_of_times() -> None:
    z = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(unit, z)
    assert torch.autograd.gradgradcheck(unit, z)


def test_a_zero_row_has_no_gradient_of_any_order() -> None:
    z = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    (first,) = torch.autograd.grad(unit(z).sum(), z, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), z)
    assert first[0].tolist() == second[0].tolist() == [0, 0]
    assert second[1].abs().sum() > 0


def test_a_gradient_penalty_through_it_is_that_of_normalize() -> None:
    generator = torch.Generator().manual_seed(0)
    z, w = (torch.randn(6, 3, dtype=torch.float64, generator=generator, requires_grad=True) for _ in range(2))
    scores = torch.tensor([0.0, 1, 2, 3, 3, 5])

    def penalty(ours: bool) -> Tensor:
        if ours:
            loss = co_sent(z, w, scores)
        else:
            loss = co_sent(normalize(z, dim=1), normalize(w, dim=1), scores, similarity="dot")
        (grad,) = torch.autograd.grad(loss, z, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), z)[0]

    torch.testing.assert_close(penalty(True), penalty(False), rtol=1e-9, atol=1e-9)


def test_the_plain_form_is_the_way_out_where_a_second_derivative_is_wanted() -> None:
    z = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    side = Side(torch.arange(4), torch.arange(4))
    relation, one = Relation(side, side), torch.ones(1, dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        return plain.contrast(unit(x), unit(x.flip(0)), one, relation).a.lse.sum()

    assert torch.autograd.gradgradcheck(loss, z)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_gradients_are_of_the_type_of_the_rows(kind: torch.dtype) -> None:
    z = torch.randn(3, 4).to(kind).requires_grad_()
    u = unit(z)
    u.sum().backward()
    assert u.dtype == torch.float32
    assert z.grad is not None
    assert z.grad.dtype == kind
