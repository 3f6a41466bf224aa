"""The losses inside a function that torch.compile was given: an epoch's last batch is smaller than the others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from multicl.functional import decoupled, nt_xent, sigmoid_loss


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # of the compiler's own
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
