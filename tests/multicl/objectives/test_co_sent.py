"""CoSENT against its sum over pairs of rows; test_over_ranks.py has the ranks."""

from __future__ import annotations

import pytest
import slow
import torch
from torch import Tensor

from multicl import CoSENT, InfoNCE, InputError, Margin, Matryoshka, Pair, functional
from multicl.distributed import World
from multicl.types import Context, Embedded, Extra

SCORES = [3.0, 1.0, float("nan"), 3.0, 0.0, 4.5, 1.0]


def vectors(rows: int = 7) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(rows, 4, dtype=torch.float64, generator=g).requires_grad_() for _ in range(2))
    return a, b


def close(found: Tensor, wanted: Tensor, leaves: list[Tensor]) -> None:
    torch.testing.assert_close(found, wanted)
    for got, right in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(wanted, leaves), strict=True):
        torch.testing.assert_close(got, right)


@pytest.mark.parametrize("scale", [1.0, 20.0, 500.0])
def test_loss_and_gradients_are_the_sum_over_pairs_of_rows(scale: float) -> None:
    a, b = vectors()
    close(functional.co_sent(a, b, SCORES, scale), slow.co_sent(a, b, SCORES, scale), [a, b])


def test_gradients_by_differences() -> None:
    a, b = vectors()
    assert torch.autograd.gradcheck(lambda a, b: functional.co_sent(a, b, SCORES, 5.0), (a, b))


def test_float32_at_the_published_scale_and_many_rows() -> None:
    g = torch.Generator().manual_seed(1)
    a, b = (torch.randn(3000, 8, generator=g) for _ in range(2))
    scores = torch.randint(0, 20, (3000,), generator=g) / 4
    cos = torch.nn.functional.cosine_similarity(a.double(), b.double()) * 20
    logits = (cos[None, :] - cos[:, None])[scores[:, None] > scores]
    wanted = torch.cat([torch.zeros(1), logits]).logsumexp(0)
    assert functional.co_sent(a, b, scores).item() == pytest.approx(wanted.item(), rel=1e-6)


def test_the_objective_finds_a_rows_two_by_their_row() -> None:
    a, b = vectors()
    order = torch.tensor([4, 0, 6, 5, 1, 2])  # b's rows stand elsewhere, and one is missing
    row, scores = torch.arange(7), torch.tensor(SCORES)
    sides = Embedded(a, row, row, score=scores), Embedded(b[order], row[order], row[order], score=scores[order])
    found = CoSENT().build((4, 4))(*sides, Context(World()))["loss"]
    there = torch.tensor([0, 1, 2, 4, 5, 6])
    close(found, slow.co_sent(a[there], b[there], scores[there].tolist(), 20.0), [a, b])


def test_nothing_to_order_is_no_loss() -> None:
    a, b = vectors(3)
    for scores in ([2.0, 2.0, 2.0], [float("nan")] * 3):
        loss = functional.co_sent(a, b, scores)
        assert loss.item() == 0
        assert not torch.autograd.grad(loss, a)[0].any()
    assert functional.co_sent(a[:0], b[:0], []).item() == 0


@pytest.mark.parametrize("similar", [[1.0, 0.0, float("nan"), 1.0, 0.0, 0.0, 1.0]])
def test_margin_with_a_target_compares_rows_own_pairs_alone(similar: list[float]) -> None:
    a, b = vectors()
    row, score = torch.arange(7), torch.tensor(similar)
    sides = (Embedded(z, row, row, score=score) for z in (a, b))
    found = Margin(3.0).build((4, 4))(*sides, Context(World()))
    known = [0, 1, 3, 4, 5, 6]
    close(found["loss"], slow.margin_contrastive(a[known], b[known], [similar[i] == 1 for i in known], 3.0), [a, b])


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(InputError, match="scale must be above 0, got 0"):
        CoSENT(0)
    with pytest.raises(InputError, match="one width, got 4 and 5"):
        CoSENT().build((4, 5))
    with pytest.raises(InputError, match=r"scores must be 7 numbers, one a row, got \[2\]"):
        functional.co_sent(*vectors(), [1.0, 2.0])
    row = torch.arange(7)
    side = Embedded(vectors()[0], row, row, score=torch.tensor(SCORES))
    with pytest.raises(InputError, match="CoSENT takes no queue"):
        CoSENT().build((4, 4))(side, side, Context(World(), extra_a=(Extra(side.z, row, row),)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": CoSENT()}, "CoSENT needs graded scores: give their column as target="),
        ({"objective": Matryoshka(CoSENT(), dims=(2,))}, "Matryoshka needs graded scores"),
        ({"objective": InfoNCE(), "target": "score"}, "InfoNCE takes no target; use CoSENT"),
        ({"objective": CoSENT(), "target": "score", "ids": "label"}, "leave out ids="),
        ({"objective": CoSENT(), "target": "score", "b": "a"}, "target= needs two nodes"),
    ],
)
def test_pairs_that_mean_nothing_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Pair(**{"a": "a", "b": "b", **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize("scores", [[2.0**24, 2.0**24 + 1, 2.0**24 + 2], [1, 1 + 1e-9, 1 + 2e-9]])
def test_scores_are_ordered_by_all_of_their_digits(scores: list[float]) -> None:
    a, b = (torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    wanted = functional.co_sent(a, b, [0, 1, 2])
    torch.testing.assert_close(functional.co_sent(a, b, torch.tensor(scores, dtype=torch.float64)), wanted)


def test_a_scale_may_be_learnt() -> None:
    a, b = (torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    scale = torch.full((1, 1), 20.0, requires_grad=True)
    loss = functional.co_sent(a, b, [0, 1, 2], scale)
    torch.testing.assert_close(loss, functional.co_sent(a, b, [0, 1, 2], 20.0))
    loss.backward()
    assert scale.grad is not None
    with pytest.raises(InputError, match="scale must be one number"):
        functional.co_sent(a, b, [0, 1, 2], torch.ones(2))


def test_a_module_without_scores_says_so() -> None:
    a, b = (Embedded(z, torch.arange(7), torch.arange(7)) for z in vectors())
    with pytest.raises(InputError, match=r"CoSENT orders rows by their scores: give Embedded\(score="):
        CoSENT().build((4, 4))(a, b, Context(World()))
