from __future__ import annotations

import math
from typing import Literal

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from multicl.ops.plain import contrast
from multicl.ops.relation import Extra, Relation, Side


def reference(
    logits: Tensor, positive: list[list[bool]], counted: list[list[bool]]
) -> tuple[list[float], list[float], list[int]]:
    """The definition, a row and a key at a time, in Python's floats."""
    lse, sums, numbers = [], [], []
    for i, row in enumerate(logits.tolist()):
        total = sum(math.exp(x) for x, c in zip(row, counted[i], strict=True) if c)
        lse.append(math.log(total) if total else 0.0)
        sums.append(sum(x for x, p in zip(row, positive[i], strict=True) if p))
        numbers.append(sum(positive[i]))
    return lse, sums, numbers


@settings(max_examples=25, deadline=None)
@given(
    na=st.integers(1, 7),
    nb=st.integers(1, 7),
    seed=st.integers(0, 99),
    equal_ids=st.sampled_from(["positive", "ignore"]),
    tilt=st.sampled_from([1.0, 2.0]),
    inside=st.booleans(),
)
def test_two_sides_match_the_definition(
    na: int, nb: int, seed: int, equal_ids: Literal["positive", "ignore"], tilt: float, inside: bool
) -> None:
    g = torch.Generator().manual_seed(seed)
    a, b = torch.randn(na, 3, dtype=torch.float64, generator=g), torch.randn(nb, 3, dtype=torch.float64, generator=g)
    row_a, row_b = torch.randperm(8, generator=g)[:na], torch.randperm(8, generator=g)[:nb]
    id_of = torch.randint(3, (8,), generator=g)
    id_a, id_b = id_of[row_a], id_of[row_b]
    relation = Relation(Side(row_a, id_a), Side(row_b, id_b), equal_ids)
    stats = contrast(a, b, torch.tensor([1.5], dtype=torch.float64), relation, tilts=(tilt,), positives_in_sum=inside)
    logits = 1.5 * a @ b.T

    def is_positive(i: int, j: int) -> bool:
        return bool(row_a[i] == row_b[j] or (equal_ids == "positive" and id_a[i] == id_b[j]))

    def is_counted(i: int, j: int) -> bool:
        if is_positive(i, j):
            return inside
        return bool(id_a[i] != id_b[j])

    positive = [[is_positive(i, j) for j in range(nb)] for i in range(na)]
    counted = [[is_counted(i, j) for j in range(nb)] for i in range(na)]
    assert stats.b is not None
    flipped = ([list(column) for column in zip(*m, strict=True)] for m in (positive, counted))
    for sums, wanted_of in ((stats.a, (logits, positive, counted)), (stats.b, (logits.T, *flipped))):
        lse, total, number = reference(wanted_of[0], wanted_of[1], wanted_of[2])
        if tilt != 1:
            lse, _, _ = reference(tilt * wanted_of[0], wanted_of[1], wanted_of[2])
        torch.testing.assert_close(sums.lse[0], torch.tensor(lse, dtype=torch.float64))
        torch.testing.assert_close(sums.positive, torch.tensor(total, dtype=torch.float64))
        assert sums.positives.tolist() == number


def test_a_symmetric_matrix_leaves_out_self_alone() -> None:
    z = torch.randn(6, 4, dtype=torch.float64)
    row = torch.tensor([0, 1, 2, 0, 1, 2])
    side = Side(row, row)
    stats = contrast(z, None, torch.ones(1, dtype=torch.float64), Relation(side, side))
    assert stats.b is None
    assert stats.a.positives.tolist() == [1] * 6
    logits = z @ z.T
    for i in range(6):
        others = [logits[i, j] for j in range(6) if j != i]
        torch.testing.assert_close(stats.a.lse[0, i], torch.logsumexp(torch.stack(others), 0))
        torch.testing.assert_close(stats.a.positive[i], logits[i, (i + 3) % 6])


def test_extra_keys_of_the_own_row_are_no_negatives() -> None:
    a = torch.randn(3, 2, dtype=torch.float64)
    side = Side(torch.arange(3), torch.arange(3) + 10)
    queue = Extra(torch.randn(4, 2, dtype=torch.float64), torch.tensor([0, 7, 8, 9]), torch.tensor([10, 11, 50, 51]))
    stats = contrast(a, a.flip(0), torch.ones((), dtype=torch.float64), Relation(side, side), extra_a=[queue])
    logits = torch.cat([a @ a.flip(0).T, a @ queue.z.T], 1)
    counted = torch.ones(3, 7, dtype=torch.bool)
    counted[0, 3] = False  # the key of its own row
    torch.testing.assert_close(stats.a.lse[0], torch.logsumexp(logits.masked_fill(~counted, -torch.inf), 1))
    assert stats.a.positives.tolist() == [1, 2, 1]  # row 1 has a key of its id in the queue


def test_a_row_without_keys_has_no_gradient() -> None:
    a = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    side = Side(torch.tensor([0, 1]), torch.tensor([5, 5]))
    stats = contrast(a, None, torch.ones(1), Relation(side, side, "ignore"))
    assert stats.a.lse.tolist() == [[0, 0]]
    assert not stats.a.valid.any()
    (grad,) = torch.autograd.grad(stats.a.lse.sum(), a)
    assert grad.tolist() == [[0, 0], [0, 0]]


def test_gradients_are_those_of_finite_differences() -> None:
    a, b = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    scale = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    side = Side(torch.arange(4), torch.tensor([1, 1, 2, 3]))

    def both(a: Tensor, b: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
        stats = contrast(a, b, scale, Relation(side, side), tilts=(1.0, 1.5))
        assert stats.b is not None
        return stats.a.lse, stats.a.positive, stats.b.lse, stats.b.positive

    assert torch.autograd.gradcheck(both, (a, b, scale))
