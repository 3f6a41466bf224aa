"""InfoNCE without in-batch negatives; test_over_ranks.py has its gradients over ranks."""

from __future__ import annotations

from typing import Any

import own_keys
import pytest
import torch
from ranks import run_ranks
from torch.nn.functional import normalize

from multicl import InfoNCE, InputError, Matryoshka, Mine, Pair, Predicted
from multicl.distributed import World
from multicl.types import Context, Embedded, Extra

ROW = torch.arange(4)


def view(seed: int, ids: Any = ROW, row: Any = ROW) -> Embedded:
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(len(row), 3, dtype=torch.float64, generator=g)
    return Embedded(z.requires_grad_(), torch.as_tensor(row), torch.as_tensor(ids))


def extra(seed: int, ids: Any, row: Any, same_row: Any = "ignore") -> Extra:
    of = view(seed, ids, row)
    return Extra(of.z, of.row, of.id, same_row)


def by_hand(query: Embedded, key: Embedded, extras: list[Extra], equal_ids: str, alpha: float = 1.0) -> torch.Tensor:
    """Row by row, in lists."""
    losses = []
    for i, own in enumerate(query.row.tolist()):
        u = normalize(query.z[i], dim=0) / 0.5
        positives = [u @ normalize(key.z[key.row.tolist().index(own)], dim=0)]
        negatives = []
        for more in extras:
            for z, row, about in zip(more.z, more.row.tolist(), more.id.tolist(), strict=True):
                if row == own and more.same_row == "ignore":
                    continue
                logit = u @ normalize(z, dim=0)
                if about != query.id[i]:
                    negatives.append(logit + torch.tensor(alpha if row == own else 1.0).log())
                elif equal_ids == "positive":
                    positives.append(logit)
        losses.append(torch.stack(positives + negatives).logsumexp(0) - torch.stack(positives).mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("equal_ids", ["positive", "ignore"])
@pytest.mark.parametrize("way", ["one", "both", "symmetric"])
@pytest.mark.parametrize("alpha", [1.0, 3.0])
def test_a_row_meets_its_own_key_and_extra_ones_by_their_ids(equal_ids: Any, way: str, alpha: float) -> None:
    """Of the queue one key is of row 1, one of row 2's id; all that row 3 could meet is nothing to it."""
    a, b = view(0, [0, 1, 2, 9]), view(1, [0, 1, 2, 9])
    queue = extra(2, [1, 2, 9], [1, 7, 8])
    explicit = extra(3, [9, 51, 9], [0, 2, 5], "negative")
    mined = extra(4, [9], [6])
    context = Context(
        World(), symmetric=way == "symmetric", equal_ids=equal_ids,
        extra_a=(queue, explicit) if way != "both" else (queue,), extra_b=(mined, queue) if way == "both" else (),
    )  # fmt: skip
    objective = InfoNCE(0.5, both_directions=way == "both", own_negative=alpha, in_batch=False).build((3, 3))
    wanted = by_hand(a, b, list(context.extra_a), equal_ids, alpha)
    if way != "one":
        back = context.extra_a if way == "symmetric" else context.extra_b
        wanted = (wanted + by_hand(b, a, list(back), equal_ids, alpha if way == "symmetric" else 1.0)) / 2
    found = objective(a, b, context)
    torch.testing.assert_close(found["loss"], wanted)
    leaves = [a.z, b.z, queue.z, explicit.z if way != "both" else mined.z]
    for got, right in zip(*(torch.autograd.grad(x, leaves) for x in (found["loss"], wanted)), strict=True):
        torch.testing.assert_close(got, right)
    assert 0 < found["confidence"] <= 1


@pytest.mark.parametrize("order", [[2, 0, 3, 1], [3, 1], []])
def test_own_keys_are_found_where_sides_differ(order: list[int]) -> None:
    """In their order, or since rows of a lack b (`keys_from="all"`): these ask for nothing."""
    a, b, here = view(0), view(1), torch.tensor(order, dtype=torch.int64)
    context = Context(World(), both=False, extra_a=(extra(2, [20, 21], [20, 21]),))
    objective = InfoNCE(0.5, in_batch=False).build((3, 3))
    torch.testing.assert_close(objective(a, b[here], context)["loss"], objective(a[here], b[here], context)["loss"])


def test_nothing_is_lost_without_any_keys_yet() -> None:
    a, b = view(0), view(1)
    context = Context(World(), both=False, extra_a=(extra(2, ROW[:0], ROW[:0]),))
    loss = InfoNCE(0.5, in_batch=False).build((3, 3))(a, b, context)["loss"]
    grads = torch.autograd.grad(loss, [a.z, b.z])
    assert loss == 0
    assert all((grad == 0).all() for grad in grads)
    with pytest.raises(InputError, match="in_batch=False needs negatives from outside the batch: give"):
        InfoNCE(0.5, in_batch=False).build((3, 3))(a, b, Context(World()))


def test_gradients_are_those_of_finite_differences() -> None:
    assert torch.autograd.gradcheck(own_keys.ours, own_keys.given(5, torch.float64, 0.3))


@pytest.mark.parametrize("temperature", [1.0, 0.07, 0.005])
@pytest.mark.parametrize("n", [2, 30, 1500])
def test_float32_is_exact(n: int, temperature: float) -> None:
    mine, theirs = own_keys.given(n, torch.float32, temperature), own_keys.given(n, torch.float64, temperature)
    loss, wanted = own_keys.ours(*mine), own_keys.paper(*theirs)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    for got, right in zip(torch.autograd.grad(loss, mine), torch.autograd.grad(wanted, theirs), strict=True):
        assert (got - right).norm() <= 1e-5 * right.norm()


@pytest.mark.parametrize("counts", [[20], [14, 6]])
@pytest.mark.parametrize(
    ("products", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 1e-2)]
)  # the interpreter knows no products of bfloat16
def test_interpreted_kernels_give_the_papers_loss(
    counts: list[int], products: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    found = run_ranks(own_keys.by_kernels, len(counts), counts, 0.2, products, start="spawn")
    theirs = own_keys.given(sum(counts), torch.float64, 0.2)
    loss = own_keys.paper(*theirs)
    wanted = [loss, *torch.autograd.grad(loss, theirs)]
    for number, right in enumerate(wanted):
        shares = torch.tensor([rank[number] for rank in found], dtype=torch.float64)
        got = shares[0] if number == 0 else shares.sum(0)
        assert (got.view_as(right) - right).norm() <= tolerance * right.norm(), number


@pytest.mark.parametrize("objective", [InfoNCE(in_batch=False), Matryoshka(InfoNCE(in_batch=False), dims=(2,))])
def test_a_pair_without_other_keys_is_refused(objective: Any) -> None:
    with pytest.raises(
        InputError, match=r"pair 'a-b': in_batch=False needs negatives .*: give queue=, negatives= or mine="
    ):
        Pair("a", "b", objective)
    for more in ({"queue": 8}, {"negatives": "c"}, {"mine": Mine()}):
        Pair("a", "b", objective, **more)  # type: ignore[arg-type]


def test_a_predictor_asks_the_queue_alone() -> None:
    with pytest.raises(InputError, match="in_batch=False"):
        Pair("a", "a", Predicted(InfoNCE(in_batch=False)), keys="momentum")
    Pair("a", "a", Predicted(InfoNCE(in_batch=False)), keys="momentum", queue=8)
