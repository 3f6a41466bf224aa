"""DCL and hard negatives on ids that repeat; test_functional.py has them on rows of their own."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from multicl import Decoupled, HardNegative, InputError
from multicl.distributed import World
from multicl.functional import decoupled, hard_negative
from multicl.types import Context, Embedded

T = 0.4


def view(rows: Tensor, ids: Tensor, g: torch.Generator) -> Embedded:
    z = torch.randn(len(rows), 3, dtype=torch.float64, generator=g)
    return Embedded(torch.nn.functional.normalize(z, dim=1).requires_grad_(), rows, ids)


def slow_one_way(a: Embedded, b: Embedded, equal_ids: str, loss: str, beta: float, tau_plus: float) -> Tensor:
    """Rows of a against the keys of b, a pair at a time."""
    terms = []
    for i in range(len(a)):
        positives, negatives = [], []
        for j in range(len(b)):
            logit = a.z[i] @ b.z[j] / T
            if a.row[i] == b.row[j] or (a.id[i] == b.id[j] and equal_ids == "positive"):
                positives.append(logit)
            elif a.id[i] != b.id[j]:
                negatives.append(logit)
        if not positives or not negatives:
            continue
        pos, neg = torch.stack(positives).mean(), torch.stack(negatives)
        if loss == "decoupled":
            terms.append(neg.exp().sum().log() - pos)
            continue
        hard = (neg * (1 + beta)).exp().sum() / (neg * beta).exp().mean()
        left = (hard - tau_plus * len(neg) * pos.exp()) / (1 - tau_plus)
        terms.append((1 + left.clamp(min=len(neg) * math.exp(-1 / T)) / pos.exp()).log())
    return torch.stack(terms).mean() if terms else 0.0 * a.z.sum()


@pytest.mark.parametrize("loss", ["decoupled", "hard_negative"])
@settings(max_examples=20, deadline=None)
@given(
    na=st.integers(1, 6),
    nb=st.integers(1, 6),
    seed=st.integers(0, 99),
    equal_ids=st.sampled_from(["positive", "ignore"]),
    beta=st.sampled_from([0.0, 1.0, 2.5]),
)
def test_two_nodes_with_ids_match_the_definition(
    loss: str, na: int, nb: int, seed: int, equal_ids: Literal["positive", "ignore"], beta: float
) -> None:
    g = torch.Generator().manual_seed(seed)
    id_of = torch.randint(4, (8,), generator=g)
    row_a, row_b = torch.randperm(8, generator=g)[:na], torch.randperm(8, generator=g)[:nb]
    a, b = view(row_a, id_of[row_a], g), view(row_b, id_of[row_b], g)
    hard = HardNegative(T, beta=beta, tau_plus=0.2, similarity="dot")
    objective = Decoupled(T, similarity="dot") if loss == "decoupled" else hard
    found = objective.build((3, 3))(a, b, Context(World(), equal_ids=equal_ids))["loss"]
    ways = [slow_one_way(x, y, equal_ids, loss, beta, 0.2) for x, y in ((a, b), (b, a))]
    wanted = (ways[0] + ways[1]) / 2
    torch.testing.assert_close(found, wanted)
    grads = (torch.autograd.grad(x, [a.z, b.z], allow_unused=True, materialize_grads=True) for x in (found, wanted))
    for got, right in zip(*grads, strict=True):
        torch.testing.assert_close(got, right)


def test_one_node_gives_the_functions_of_those_names() -> None:
    g, row = torch.Generator().manual_seed(0), torch.arange(5)
    a, b = view(row, row, g), view(row, row, g)
    context = Context(World(), symmetric=True)
    torch.testing.assert_close(Decoupled(0.3).build((3, 3))(a, b, context)["loss"], decoupled(a.z, b.z, 0.3))
    hard = HardNegative(0.3, beta=2.0, tau_plus=0.05).build((3, 3))(a, b, context)["loss"]
    torch.testing.assert_close(hard, hard_negative(a.z, b.z, 0.3, 2.0, 0.05))


def test_settings_that_cannot_work() -> None:
    with pytest.raises(InputError, match="beta must be 0 or more, got -1"):
        HardNegative(beta=-1)
    with pytest.raises(InputError, match=r"tau_plus must be in \[0, 1\), got 1"):
        HardNegative(tau_plus=1)
