"""The objective on banks that are given, against `cross_entropy` and logistic losses of plain products."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, softplus

from multicl import InputError, InstanceNCE
from multicl.distributed import World
from multicl.training.bank import Bank
from multicl.types import Context, Embedded, Extra

ROW = torch.tensor([1, 4, 6])


def view(seed: int) -> Embedded:
    z = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return Embedded(z.requires_grad_(), ROW, ROW + 100)


def bank(seed: int) -> Bank:
    made = Bank([8], 5, seed)
    z = torch.randn(8, 5, generator=torch.Generator().manual_seed(seed + 50))
    made.meet(Embedded(z, torch.arange(8), torch.arange(8) + 100))
    made.log_norm = 0.4 + seed
    return made


def plain(rows: Embedded, made: Bank, side: str, settings: InstanceNCE) -> Tensor:
    drawn = made.negatives(rows, settings.negatives, 7, side).at(slice(0, 3))
    places = torch.cat([rows.row[:, None], drawn], 1)
    logits = (made.z.double()[places] * normalize(rows.z, dim=1)[:, None]).sum(2) / settings.temperature
    if settings.softmax:
        return cross_entropy(logits, torch.zeros(3, dtype=torch.int64))
    assert made.log_norm is not None
    logits = logits - made.log_norm - math.log(settings.negatives)
    return (softplus(-logits[:, 0]) + softplus(logits[:, 1:]).sum(1)).mean()


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("one_node", [False, True])
@pytest.mark.parametrize("both", [False, True])
def test_each_side_asks_the_other_s_bank(softmax: bool, one_node: bool, both: bool) -> None:
    settings = InstanceNCE(0.5, negatives=6, softmax=softmax)
    a, b, bank_a = view(0), view(1), bank(0)
    bank_b = bank_a if one_node else bank(1)
    context = Context(World(), 7, symmetric=one_node and both, both=both, bank_a=bank_a, bank_b=bank_b)
    held = bank_b.z.clone()
    found = settings.build((5, 5))(a, b, context)
    wanted = plain(a, bank_b, "a", settings)
    if both:
        wanted = (wanted + plain(b, bank_a, "b", settings)) / 2
    torch.testing.assert_close(found["loss"], wanted)
    leaves = [a.z, b.z] if both else [a.z]
    for got, right in zip(torch.autograd.grad(found["loss"], leaves), torch.autograd.grad(wanted, leaves), strict=True):
        torch.testing.assert_close(got, right)
    assert 0 < found["confidence"] < 1
    assert torch.equal(bank_b.z, held)  # moved by the step, not by the loss


def test_rows_of_which_the_bank_knows_nothing_count_nowhere() -> None:
    settings = InstanceNCE(0.5, negatives=6)
    made = bank(0)
    made.seen[4] = False
    made._look()
    a = view(0)
    context = Context(World(), 7, both=False, bank_b=made)
    (grad,) = torch.autograd.grad(settings.build((5, 5))(a, view(1), context)["loss"], a.z)
    assert grad[1].eq(0).all()
    assert grad[[0, 2]].ne(0).all()
    labels = Embedded(a.z, ROW, torch.zeros(3, dtype=torch.int64))  # nothing else than positives
    made.id[:] = 0
    made._look()
    assert settings.build((5, 5))(labels, view(1), context)["loss"] == 0


def test_what_it_cannot_work_with_is_refused() -> None:
    module = InstanceNCE(negatives=6).build((5, 5))
    with pytest.raises(InputError, match="InstanceNCE needs a bank of the data's rows: train it with a Trainer"):
        module(view(0), view(1), Context(World()))
    queue = Extra(torch.randn(2, 5), ROW[:2], ROW[:2])
    with pytest.raises(InputError, match="InstanceNCE takes no queue"):
        module(view(0), view(1), Context(World(), extra_a=(queue,), bank_a=bank(0), bank_b=bank(0)))
    with pytest.raises(InputError, match="compares vectors of one width, got 5 and 6"):
        InstanceNCE().build((5, 6))
    for settings, message in (
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"negatives": 0}, "negatives must be 1 or more, got 0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
    ):
        with pytest.raises(InputError, match=message):
            InstanceNCE(**settings)  # type: ignore[arg-type]
