from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from multicl import Bilinear, InputError
from multicl.distributed import World
from multicl.types import Context, Embedded, Extra


def sides(n: int = 6, widths: tuple[int, int] = (5, 3)) -> list[Embedded]:
    g, row = torch.Generator().manual_seed(0), torch.arange(n)
    return [Embedded(torch.randn(n, d, dtype=torch.float64, generator=g), row, row) for d in widths]


def plain(a: Tensor, b: Tensor, w: Tensor, bounded: bool) -> Tensor:
    """The soft-max's logits, entry by entry."""
    rows = []
    for x in a:
        row = []
        for y in b:
            u, v = x, y
            if bounded:
                u, v = (((t - t.mean()) / (t.var(correction=0) + 1e-5).sqrt()).tanh() for t in (x, y))
            row.append((u[:, None] * w * v).sum())
        rows.append(torch.stack(row))
    return torch.stack(rows)


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("symmetric", [True, False])
def test_loss_and_gradients_are_the_plain_form_s(bounded: bool, both: bool, symmetric: bool) -> None:
    a, b = sides(widths=(5, 5) if symmetric else (5, 3))
    module = Bilinear(0.7, both_directions=both, bounded=bounded).build((a.z.shape[1], b.z.shape[1])).double()
    (w,) = module.parameters()
    leaves = [a.z.requires_grad_(), b.z.requires_grad_(), w]
    found = module(a, b, context := Context(World(), symmetric=symmetric))["loss"]
    logits, truth = plain(a.z, b.z, w, bounded) / 0.7, torch.arange(6)
    cross_entropy = torch.nn.functional.cross_entropy
    wanted = cross_entropy(logits, truth)
    if both:
        wanted = (wanted + cross_entropy(logits.T, truth)) / 2
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)  # T is a float32
    values = module(a, b, context)
    torch.testing.assert_close(values["confidence"], logits.softmax(1).diagonal().mean(), rtol=1e-6, atol=0)
    assert module(a, b, replace(context, told=False)).keys() == {"loss"}
    for got, right in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(wanted, leaves), strict=True):
        torch.testing.assert_close(got, right, rtol=1e-6, atol=1e-9)


def test_what_it_does_not_know_is_refused() -> None:
    with pytest.raises(InputError, match="similarity='dot'"):
        Bilinear(similarity="dot")
    a, b = sides(widths=(4, 4))
    extra = Extra(a.z, a.row, a.id)
    with pytest.raises(InputError, match="no queue"):
        Bilinear().build((4, 4))(a, b, Context(World(), extra_a=(extra,)))
