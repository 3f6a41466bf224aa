"""The tiled form against the plain one, in one process and over ranks."""

from __future__ import annotations

import weakref
from typing import Literal

import pytest
import torch
from contrasts import CASES, Case, compute, inputs, of_rank, pairs_of_values
from hypothesis import given, settings
from hypothesis import strategies as st
from ranks import run_ranks
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from multicl.ops import blocks, plain
from multicl.ops.contrast import Relation, Side, contrast


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tiles for a few rows, the last ones narrower; rows of the whole ones stand apart; some are kept."""
    monkeypatch.setattr(blocks, "tile_size", lambda device: 4)
    monkeypatch.setattr(blocks, "KEPT", 40)
    monkeypatch.setattr(blocks, "ALIKE", 2)


@pytest.fixture(params=[0, 3, 1000], ids=["lists", "both", "masks"])
def many(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Tiles' positives as lists, as masks where they are many, or nearly always."""
    monkeypatch.setattr(blocks, "MANY", request.param)


def same(found: dict[str, Tensor], wanted: dict[str, Tensor], rtol: float = 1e-9) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.isfinite(found[name]).all(), name
        torch.testing.assert_close(found[name], value, rtol=rtol, atol=rtol, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.usefixtures("many")
@settings(max_examples=60, deadline=None)
@given(
    na=st.integers(1, 10), nb=st.integers(1, 10), d=st.integers(1, 5), seed=st.integers(0, 99),
    symmetric=st.booleans(), equal_ids=st.sampled_from(["positive", "ignore"]), inside=st.booleans(),
    both=st.booleans(), tilts=st.sampled_from([(1.0,), (2.0,), (1.5, 0.5), (2.0, 0.0)]),
    scale=st.sampled_from([0.1, 2.0, 100.0]), extra=st.sampled_from([None, "ignore", "negative"]),
    classes=st.integers(1, 30),
)  # fmt: skip
def test_values_and_gradients_are_those_of_the_plain_form(
    na: int, nb: int, d: int, seed: int, symmetric: bool, equal_ids: Literal["positive", "ignore"], inside: bool,
    both: bool, tilts: tuple[float, ...], scale: float, extra: Literal["ignore", "negative"] | None, classes: int,
) -> None:  # fmt: skip
    case = Case(symmetric, equal_ids, tilts, inside, both, scale, extra)
    given = inputs(case, na, nb, d, classes, seed)
    same(compute(contrast, case, given), compute(plain.contrast, case, given))


SPLITS = [[5, 5], [6, 3], [0, 7], [4, 0, 5], [3, 2, 4, 1]]


@pytest.mark.parametrize("split", range(len(SPLITS)))
def test_ranks_give_what_one_process_gives(split: int) -> None:
    """Each case over one of the splits; in each of these every two values of two settings meet."""
    counts, numbers = SPLITS[split], range(split, len(CASES), len(SPLITS))
    assert pairs_of_values([CASES[number] for number in numbers]) == pairs_of_values(CASES)
    counts_b = counts[::-1]
    ranks = run_ranks(of_rank, len(counts), numbers, counts, counts_b)
    for at, number in enumerate(numbers):
        case = CASES[number]
        alone = compute(plain.contrast, case, inputs(case, sum(counts), sum(counts_b), 4, 9, number))
        for name, wanted in alone.items():
            parts = [torch.tensor(rank[at][name], dtype=torch.float64) for rank in ranks]
            if name in ("d_scale", "d_x_a", "d_x_b"):  # each rank has its part of what all rows send there
                found = torch.stack(parts).sum(0)
            elif name[0] == "d":
                found = torch.cat([part.reshape(-1, wanted.shape[1]) for part in parts])
            else:
                found = torch.cat([part.reshape(*wanted.shape[:-1], -1) for part in parts], -1)
            torch.testing.assert_close(
                found, wanted, rtol=1e-9, atol=1e-9, msg=lambda m, n=name, c=case: f"{c} {n}: {m}"
            )


@pytest.mark.usefixtures("many")
def test_gradients_are_those_of_finite_differences() -> None:
    a, b = (torch.randn(5, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    scale = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    side = Side(torch.arange(5), torch.tensor([1, 1, 2, 3, 4]))

    def both(a: Tensor, b: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
        stats = contrast(a, b, scale, Relation(side, side), tilts=(1.0, 1.5))
        assert stats.b is not None
        return stats.a.lse, stats.a.positive, stats.b.lse, stats.b.positive

    assert torch.autograd.gradcheck(both, (a, b, scale))


def test_it_cannot_be_differentiated_twice_and_says_so() -> None:
    z = torch.randn(4, 3, requires_grad=True)
    side = Side(torch.arange(4), torch.arange(4))
    lse = contrast(z, z.flip(0), torch.ones(1), Relation(side, side)).a.lse.sum()
    (grad,) = torch.autograd.grad(lse, z, create_graph=True)
    with pytest.raises(RuntimeError, match=r"cannot be differentiated again: multicl\.ops\.plain"):
        grad.sum().backward()


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("rows", [4, 9])
@pytest.mark.parametrize("b_too", [True, False])
def test_it_is_made_again_under_checkpoints(rows: int, b_too: bool) -> None:
    def loss(a: Tensor, b: Tensor) -> Tensor:
        side = Side(torch.arange(rows), torch.arange(rows) // 2)
        return contrast(a * 2, b.sin() if b_too else None, torch.ones(1), Relation(side, side)).a.lse.sum()

    a, b = (torch.randn(rows, 3, requires_grad=True) for _ in range(2))
    wanted = torch.autograd.grad(loss(a, b), (a, b), allow_unused=True)
    again = checkpoint(loss, a, b, use_reentrant=False)
    found = torch.autograd.grad(again, (a, b), allow_unused=True)
    for one, other in zip(found, wanted, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


@pytest.mark.parametrize("rows", [4, 9])
def test_a_loss_that_is_kept_holds_no_rows_after_the_way_back(rows: int) -> None:
    a = torch.randn(rows, 3, requires_grad=True)
    side = Side(torch.arange(rows), torch.arange(rows))
    keys = torch.randn(rows, 3)
    gone = weakref.ref(keys)
    loss = contrast(a, keys, torch.ones(1), Relation(side, side)).a.lse.sum()
    del keys
    loss.backward(retain_graph=True)
    assert gone() is not None
    loss.backward()
    assert gone() is None
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


@pytest.mark.parametrize(("rows", "symmetric", "tiles", "again"), [(6, False, 4, 0), (7, False, 4, 4), (7, True, 6, 0)])
def test_tiles_of_a_small_block_are_walked_once(
    rows: int, symmetric: bool, tiles: int, again: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """49 entries are more than are kept; of a symmetric matrix 6 tiles of 3 rows are walked, which have 34."""
    walked, look = [], blocks.Block.look

    def counted(block: blocks.Block, tile: blocks.Tile, masks: bool = False) -> object:
        walked.append(tile)
        return look(block, tile, masks)

    monkeypatch.setattr(blocks.Block, "look", counted)
    a, b = (torch.randn(rows, 3, requires_grad=True) for _ in range(2))
    side = Side(torch.arange(rows), torch.arange(rows) // 2)
    lse = contrast(a, None if symmetric else b, torch.ones(1), Relation(side, side)).a.lse.sum()
    assert len(walked) == tiles
    lse.backward()
    assert len(walked) == tiles + again


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_sums_are_float32_at_least_also_under_autocast(dtype: torch.dtype) -> None:
    z = torch.nn.functional.normalize(torch.randn(8, 4), dim=1).to(dtype)
    side = Side(torch.arange(8), torch.arange(8))
    with torch.autocast("cpu", torch.bfloat16):
        stats = contrast(z, z, torch.tensor([100.0]), Relation(side, side))
    assert stats.a.lse.dtype == torch.float32
    wanted = torch.logsumexp(100 * z.double() @ z.double().T, 1)
    torch.testing.assert_close(stats.a.lse[0].double(), wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("scale", [2.0, 100.0])
def test_a_row_and_a_column_far_below_all_others_keep_their_sums(scale: float) -> None:
    """At scale 100 the best cosine of -0.9 is e^-190 of the greatest: one shift for all would lose it."""
    z = torch.nn.functional.normalize(torch.randn(9, 16), dim=1)
    a, b = z.clone(), z.clone()
    base = torch.nn.functional.normalize(torch.ones(16), dim=0)
    a[:], b[:] = (torch.nn.functional.normalize(base + 0.05 * torch.randn(9, 16), dim=1) for _ in range(2))
    a[3], b[7] = -base, -base
    side = Side(torch.arange(9), torch.arange(9))
    a.requires_grad_()
    stats = contrast(a, b, torch.tensor([scale]), Relation(side, side))
    assert stats.b is not None
    logits = scale * a.detach().double() @ b.double().T
    for sums, wanted in ((stats.a, logits), (stats.b, logits.T)):
        torch.testing.assert_close(sums.lse[0].double(), torch.logsumexp(wanted, 1), rtol=1e-5, atol=1e-5)
    (grad,) = torch.autograd.grad(stats.a.lse.sum(), a)
    torch.testing.assert_close(
        grad.double(), scale * torch.softmax(logits, 1) @ b.double(), rtol=1e-4, atol=1e-4 * scale
    )


def test_the_gradient_of_a_positive_does_not_cancel() -> None:
    """Where the others have 1e-9 of the sum, p - 1 in float32 would be 0 or off by all of its digits."""
    a = torch.eye(2, 3)
    b = torch.eye(2, 3)
    side = Side(torch.arange(2), torch.arange(2))
    x = a.clone().requires_grad_()
    sums = contrast(x, b, torch.tensor([20.0]), Relation(side, side), both=False).a
    (grad,) = torch.autograd.grad((sums.lse[0] - sums.positive).sum(), x)
    p = 1 / (1 + torch.tensor(20.0, dtype=torch.float64).exp())
    torch.testing.assert_close(
        grad[0].double(), 20 * p * torch.tensor([-1.0, 1, 0], dtype=torch.float64), rtol=1e-5, atol=0
    )


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # of the compiler's own
def test_a_model_around_it_compiles() -> None:
    linear = torch.nn.Linear(4, 3)
    side = Side(torch.arange(6), torch.arange(6))

    def loss(x: Tensor) -> Tensor:
        z = linear(x)
        stats = contrast(z, z.flip(0), torch.ones(1), Relation(side, side))
        return (stats.a.lse[0] - stats.a.positive).mean()

    x = torch.randn(6, 4)
    wanted = torch.autograd.grad(loss(x), linear.weight)[0]
    compiled = torch.compile(loss, backend="aot_eager")
    torch.testing.assert_close(torch.autograd.grad(compiled(x), linear.weight)[0], wanted)


@pytest.mark.parametrize("rows", [1, 3, 5, 65])
def test_inf_cl_rows_that_fill_no_tile_at_a_scale_whose_exponentials_overflow(rows: int) -> None:
    g = torch.Generator().manual_seed(rows)
    a, b = (torch.nn.functional.normalize(torch.randn(rows, 5, generator=g), dim=1) for _ in range(2))
    side = Side(torch.arange(rows), torch.arange(rows))
    found = contrast(a, b, torch.tensor([100.0]), Relation(side, side), unit=True)
    assert found.b is not None
    logits = 100 * a.double() @ b.double().T
    torch.testing.assert_close(found.a.lse[0].double(), logits.logsumexp(1), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found.b.lse[0].double(), logits.logsumexp(0), rtol=1e-5, atol=1e-4)
