"""The losses inside a function that torch.compile was given: an epoch's last batch is smaller than the others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from multicl.functional import decoupled, info_nce, nt_xent, sigmoid_loss

WARNS = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
"""The compiler itself."""


@WARNS
@pytest.mark.parametrize("dynamic", [None, True])
def test_compiled_losses_take_batches_of_several_sizes(dynamic: bool | None) -> None:
    torch.compiler.reset()

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return nt_xent(a, b, 0.1) + 2 * sigmoid_loss(a, b, 10.0, -10.0) + 3 * decoupled(a, b, 0.1)

    compiled = torch.compile(loss, backend="eager", dynamic=dynamic)
    for n in (8, 5, 7):
        a, b = (torch.randn(n, 4, requires_grad=True) for _ in range(2))
        found, wanted = (torch.autograd.grad(f(a, b), (a, b)) for f in (compiled, loss))
        torch.testing.assert_close(found, wanted)


@WARNS
def test_a_learnt_temperature_is_not_looked_at_within_a_graph() -> None:
    """The compiler would warn of it, in ten lines."""
    torch.compiler.reset()
    counters.clear()
    log_scale = torch.zeros((), requires_grad=True)

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return info_nce(a, b, 1 / log_scale.exp())

    a, b = (torch.randn(5, 4, requires_grad=True) for _ in range(2))
    found, wanted = (
        torch.autograd.grad(f(a, b), (a, b, log_scale)) for f in (torch.compile(loss, backend="eager"), loss)
    )
    torch.testing.assert_close(found, wanted)
    assert not any("item" in reason for reason in counters["graph_break"])
