from __future__ import annotations

import slow
import torch

from multicl import SupCon
from multicl.distributed import World
from multicl.types import Context, Embedded


def test_labels_as_ids_on_some_of_the_rows() -> None:
    g = torch.Generator().manual_seed(0)
    label = [5, 5, 6, -1, -1, 6, 5]
    ids = torch.tensor([x if x >= 0 else 100 + i for i, x in enumerate(label)])  # as the rows of a data set have them
    views = [torch.randn(7, 4, dtype=torch.float64, generator=g).requires_grad_() for _ in range(2)]
    a, b = (Embedded(z, torch.arange(7), ids) for z in views)
    loss = SupCon().build((4, 4))(a, b, Context(World(), symmetric=True))["loss"]
    wanted = slow.sup_con(torch.cat(views), ids.repeat(2).tolist(), torch.tensor(0.1))
    torch.testing.assert_close(loss, wanted)
    for got, right in zip(torch.autograd.grad(loss, views), torch.autograd.grad(wanted, views), strict=True):
        torch.testing.assert_close(got, right)
