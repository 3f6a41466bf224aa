"""The hardest negatives of each row, against a form that goes a pair at a time, and against `contrast`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from contrasts import CASES, Case, compute, inputs
from torch import Tensor
from watched import Watched

from multicl.ops import blocks, hardest, plain
from multicl.ops.hardest import contrast_hardest
from multicl.ops.nearest import Nearest, tiles
from multicl.ops.relation import Extra, Relation, Side, Stats, Sums

ONE = [case for case in CASES if case.tilts == (1.0,) and case.inside]


@pytest.fixture(autouse=True, params=[3, 1024])
def small_tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices of a few rows in many tiles, and in one."""
    monkeypatch.setattr("multicl.ops.nearest.tile_size", lambda device: request.param)
    monkeypatch.setattr(hardest, "PAIRS", request.param)


def op(k: int) -> Callable[..., Stats]:
    """With the arguments of `contrast`, of which this one has some."""

    def call(a: Any, b: Any, scale: Any, relation: Any, extra_a: Any, extra_b: Any, *how: Any) -> Stats:
        return contrast_hardest(a, b, scale, relation, extra_a, extra_b, k=k, both=how[2])

    return call


def slow(k: int) -> Callable[..., Stats]:
    """The same a pair at a time."""

    def call(a: Any, b: Any, scale: Any, relation: Any, extra_a: Any, extra_b: Any, *how: Any) -> Stats:
        ids = relation.equal_ids
        forth = one_way(a, a if b is None else b, scale, relation.a, relation.b, ids, extra_a, k, b is None)
        if b is None or not how[2]:
            return Stats(forth, None)
        return Stats(forth, one_way(b, a, scale, relation.b, relation.a, ids, extra_b, k, False))

    return call


def one_way(
    q: Tensor, keys: Tensor, scale: Tensor, query: Side, key: Side, ids: str, extras: list[Extra], k: int, same: bool
) -> Sums:
    lse, positive, count = [], [], []
    for i in range(len(q)):
        pulled, pushed = [], []
        for j in range(len(keys)):
            same_id, same_row = query.id[i] == key.id[j], query.row[i] == key.row[j]
            if same and i == j:
                continue
            if same_row or (same_id and ids == "positive"):
                pulled.append(scale * (q[i] @ keys[j]))
            elif not same_id:
                pushed.append(scale * (q[i] @ keys[j]))
        for extra in extras:
            for z, row, id_ in zip(extra.z, extra.row, extra.id, strict=True):
                if extra.same_row == "ignore" and row == query.row[i]:
                    continue
                if id_ != query.id[i]:
                    pushed.append(scale * (q[i] @ z))
                elif ids == "positive":
                    pulled.append(scale * (q[i] @ z))
        pushed.sort(key=lambda x: x.item(), reverse=True)
        kept = [x.squeeze() for x in (*pulled, *pushed[:k])]
        lse.append(torch.stack(kept).logsumexp(0) if kept else q.new_zeros(()))
        positive.append(sum((x.squeeze() for x in pulled), q.new_zeros(())))
        count.append(len(pulled))
    return Sums(torch.stack(lse)[None], torch.stack(positive), torch.tensor(count, dtype=q.dtype))


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("case", ONE, ids=str)
def test_values_and_gradients_are_those_of_a_pair_at_a_time(case: Case, k: int) -> None:
    given = inputs(case, 7, 7 if case.symmetric else 5, 4, 6, seed=k)
    found, wanted = compute(op(k), case, given), compute(slow(k), case, given)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("case", ONE, ids=str)
def test_with_as_many_as_there_are_it_is_contrast(case: Case) -> None:
    given = inputs(case, 7, 7 if case.symmetric else 5, 4, 6, seed=1)
    found, wanted = compute(op(1000), case, given), compute(plain.contrast, case, given)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}")


def test_gradcheck() -> None:
    g = torch.Generator().manual_seed(0)
    a, b, x = (torch.randn(n, 3, dtype=torch.float64, generator=g).requires_grad_() for n in (5, 4, 3))
    scale = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    side = Side(torch.arange(5), torch.tensor([0, 0, 1, 2, 3]))
    relation = Relation(side, Side(side.row[:4], side.id[:4]))

    def values(a: Tensor, b: Tensor, scale: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        extra = Extra(x, torch.arange(3), torch.arange(20, 23), "negative")
        stats = contrast_hardest(a, b, scale, relation, [extra], [], k=2)
        assert stats.b is not None
        return stats.a.lse, stats.a.positive, stats.b.lse, stats.b.positive

    assert torch.autograd.gradcheck(values, (a, b, scale, x))


def test_it_refuses_to_be_differentiated_twice() -> None:
    a, side = torch.randn(4, 3, requires_grad=True), Side(torch.arange(4), torch.arange(4))
    total = contrast_hardest(a, None, torch.ones(1), Relation(side, side), k=2).a.lse.sum()
    (grad,) = torch.autograd.grad(total, a, create_graph=True)
    with pytest.raises(RuntimeError, match=r"cannot be differentiated again: InfoNCE by multicl\.ops\.plain"):
        grad.sum().backward()


def test_rows_without_keys_have_zeros_and_no_gradient() -> None:
    a, b = torch.randn(3, 2, requires_grad=True), torch.randn(0, 2, requires_grad=True)
    relation = Relation(Side(torch.arange(3), torch.arange(3)), Side(torch.arange(0), torch.arange(0)))
    stats = contrast_hardest(a, b, torch.ones(1), relation, k=4)
    assert stats.b is not None
    assert stats.a.lse.tolist() == [[0.0] * 3]
    assert not stats.a.valid.any()
    grads = torch.autograd.grad(stats.a.lse.sum() + stats.b.lse.sum(), [a, b])
    assert not grads[0].any()


def test_half_precision_rows_give_float32_statistics() -> None:
    g = torch.Generator().manual_seed(0)
    a, side = torch.randn(6, 4, generator=g).bfloat16(), Side(torch.arange(6), torch.arange(6))
    with torch.autocast("cpu", torch.bfloat16):
        found = contrast_hardest(a, a, torch.full((1,), 20.0), Relation(side, side), k=2).a.lse
    wanted = contrast_hardest(a.double(), a.double(), torch.full((1,), 20.0), Relation(side, side), k=2).a.lse
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)


def test_nearest_keeps_the_best_of_all_tiles_and_shows_nan() -> None:
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(7, 3, generator=g), torch.randn(11, 3, generator=g)
    nearest = Nearest(x, 4)
    for rows, columns in tiles(7, 11, x.device):
        nearest.add(rows, x[rows] @ y[columns].T, columns.start)
    wanted = (x @ y.T).topk(4, dim=1)
    torch.testing.assert_close(nearest.values, wanted.values)
    assert torch.equal(nearest.places, wanted.indices)
    assert nearest.found.all()
    few = Nearest(x[:1], 2)
    few.add(slice(0, 1), torch.tensor([[float("nan"), -torch.inf]]), 5)
    assert few.found.tolist() == [[True, False]]
    assert few.places[0, 0] == 5


def test_memory_does_not_grow_with_the_square(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multicl.ops.nearest.tile_size", blocks.tile_size)
    side = Side(torch.arange(2500), torch.arange(2500))
    seen: list[int] = []

    def pack(t: Tensor) -> Tensor:
        seen.append(t.numel())
        return t

    a = torch.randn(2500, 4, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        contrast_hardest(a, None, torch.ones(1), Relation(side, side), k=8)
    assert max(seen) <= 2500 * 8


def test_keys_that_want_no_gradient_get_no_room_for_one() -> None:
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(6, 4, generator=g).requires_grad_(), torch.randn(9, 4, generator=g)
    relation = Relation(Side(torch.arange(6), torch.arange(6)), Side(torch.arange(9), torch.arange(9)))
    grads, calls = [], []
    for keys in (b.clone().requires_grad_(), b):
        total = contrast_hardest(a, keys, torch.ones(1), relation, k=2, both=False).a.lse.sum()
        with Watched() as watch:
            grads.append(torch.autograd.grad(total, a)[0])
        calls.append(watch.calls["index_add_"])
    assert torch.equal(*grads)
    assert calls[0] == 2 * calls[1] > 0
