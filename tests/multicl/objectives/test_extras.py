"""Queues and explicit negatives: what they are to a row, and who takes none. test_over_ranks.py has their gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from multicl import InfoNCE, InputError, Margin, Sigmoid
from multicl.distributed import World
from multicl.types import Context, Embedded, Extra, Objective

ROW = torch.arange(4)


def views() -> tuple[Embedded, Embedded]:
    g = torch.Generator().manual_seed(0)
    a, b = (Embedded(torch.randn(4, 3, dtype=torch.float64, generator=g), ROW, ROW + 10) for _ in range(2))
    return a, b


def test_explicit_negatives_are_keys_of_every_row_and_own_keys_of_a_queue_of_none() -> None:
    a, b = views()
    z = torch.randn(4, 3, dtype=torch.float64)
    explicit, queue = Extra(z, ROW, ROW + 50, "negative"), Extra(z.flip(0), ROW.flip(0), ROW.flip(0) + 10)
    context = Context(World(), extra_a=(explicit, queue))
    loss = InfoNCE(0.5, both_directions=False).build((3, 3))(a, b, context)["loss"]
    u, v, w = (normalize(x, dim=1) for x in (a.z, b.z, z))
    own = torch.eye(4, dtype=torch.bool).flip(1)  # row i's own key stands in the queue's place 3 - i
    logits = torch.cat([u @ v.T, u @ w.T, (u @ w.flip(0).T).masked_fill(own, -torch.inf)], 1) / 0.5
    torch.testing.assert_close(loss, cross_entropy(logits, torch.arange(4)))


@pytest.mark.parametrize("objective", [Margin(), Sigmoid()])
def test_objectives_that_know_no_other_keys_refuse_them(objective: Objective) -> None:
    context = Context(World(), extra_a=(Extra(torch.randn(2, 3), ROW[:2], ROW[:2]),))
    with pytest.raises(InputError, match=f"{type(objective).__name__} takes no queue"):
        objective.build((3, 3))(*views(), context)
