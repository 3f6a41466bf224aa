"""The bank by itself: what is drawn, what Z is, how slots move."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from multicl.data.ids import SET_BITS
from multicl.distributed import World
from multicl.training.bank import Bank
from multicl.types import Embedded


def keys(rows: list[int], ids: list[int] | None = None, dim: int = 8, seed: int = 0) -> Embedded:
    z = torch.randn(len(rows), dim, generator=torch.Generator().manual_seed(seed))
    return Embedded(z, torch.tensor(rows, dtype=torch.int64), torch.tensor(ids or [100 + r for r in rows]))


def all_of(bank: Bank, rows: Embedded, count: int, *what: object) -> tuple[Tensor, Tensor]:
    found = bank.negatives(rows, count, *what)
    return found.at(slice(0, len(rows))), found.some


def test_it_begins_with_unit_vectors_that_the_seed_decides() -> None:
    bank, same, other = Bank([20], 8, 1), Bank([20], 8, 1), Bank([20], 8, 2)
    torch.testing.assert_close(bank.z.norm(dim=1), torch.ones(20))
    assert torch.equal(bank.z, same.z)
    assert not torch.equal(bank.z, other.z)
    assert len(bank) == 0


def test_a_row_of_any_set_has_its_slot() -> None:
    bank = Bank([3, 5], 8, 0)
    rows = torch.tensor([0, 2, 1 << SET_BITS, (1 << SET_BITS) + 4])
    assert bank.slots(rows).tolist() == [0, 2, 3, 7]


@settings(max_examples=40, deadline=None)
@given(
    seen=st.lists(st.integers(0, 11), min_size=1, max_size=12, unique=True),
    asked=st.lists(st.integers(0, 11), min_size=1, max_size=12, unique=True),
    labels=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_only_rows_seen_are_drawn_and_never_a_positive(
    seen: list[int], asked: list[int], labels: int, seed: int
) -> None:
    """With labels as ids, slots of a row's own label are no negatives either, and all others come up."""
    bank = Bank([12], 8, seed)
    bank.meet(keys(seen, [r % labels for r in seen]))
    drawn, some = all_of(bank, keys(asked, [r % labels for r in asked]), 400, "step", 3)
    for row, found, any_left in zip(asked, drawn, some, strict=True):
        allowed = {r for r in seen if r % labels != row % labels}
        assert bool(any_left) == bool(allowed)
        if allowed:
            assert set(found.tolist()) == allowed  # of 400 draws from 11 at most, none is missed but by 1e-16


def test_draws_are_uniform() -> None:
    bank = Bank([50], 8, 0)
    bank.meet(keys(list(range(0, 50, 2))))
    drawn, _ = all_of(bank, keys([4, 5]), 48_000, 1)
    for found, free in ((drawn[0], 24), (drawn[1], 25)):
        counts = torch.bincount(found, minlength=50).double()
        expected = 48_000 / free
        chi = ((counts[counts > 0] - expected) ** 2 / expected).sum().item()
        assert (counts > 0).sum() == free
        assert chi < 60  # 24 degrees of freedom: beyond this once in 15,000


def test_draws_depend_on_row_and_name_alone() -> None:
    bank = Bank([30], 8, 0)
    bank.meet(keys(list(range(30))))
    rows = keys([3, 9, 20, 7])
    whole, _ = all_of(bank, rows, 16, 5, "a")
    parts = bank.negatives(rows, 16, 5, "a")
    assert torch.equal(torch.cat([parts.at(slice(2, 4)), parts.at(slice(0, 2))]), whole[[2, 3, 0, 1]])
    alone, _ = all_of(bank, rows[torch.tensor([2])], 16, 5, "a")
    assert torch.equal(alone, whole[2:3])
    for what in ((6, "a"), (5, "b")):
        assert not torch.equal(all_of(bank, rows, 16, *what)[0], whole)
    assert not torch.equal(whole[0], whole[1])
    other = Bank([30], 8, 1)
    other.meet(keys(list(range(30))))
    assert not torch.equal(all_of(other, rows, 16, 5, "a")[0], whole)


def test_an_empty_bank_has_nothing_to_draw() -> None:
    drawn, some = all_of(Bank([4], 8, 0), keys([1, 2]), 3)
    assert drawn.shape == (2, 3)
    assert not some.any()


@pytest.mark.parametrize("one_way", [False, True])
def test_z_is_that_of_vectors_all_over_the_sphere_whatever_the_encoder_gives(one_way: bool) -> None:
    """The mean of exp(s u.v) over the sphere of D dimensions is 0F1(D/2, s^2/4), a plain series."""
    dim, scale = 64, 1 / 0.07
    term = wanted = 1.0
    for k in range(1, 200):
        term *= scale**2 / 4 / (k * (dim / 2 + k - 1))
        wanted += term
    queries = keys(list(range(64)), dim=dim)
    if one_way:  # as of an untrained encoder
        queries = Embedded(torch.ones(64, dim) + 0.1 * queries.z, queries.row, queries.id)
    bank = Bank([5000], dim, 7)
    bank.estimate([queries], scale, 2000, World())
    assert bank.log_norm == pytest.approx(math.log(wanted), abs=0.15)
    before = bank.log_norm
    bank.meet(queries)
    assert bank.log_norm == before


def test_z_is_the_mean_over_what_was_drawn_and_waits_for_rows() -> None:
    bank = Bank([40], 8, 0)
    bank.estimate([keys([])], 3.0, 50, World())
    assert bank.log_norm is None
    queries = [keys([1, 2, 3]), keys([1, 2, 3], seed=1)]
    bank.estimate(queries, 3.0, 30_000, World())
    wanted = (3.0 * normalize(torch.cat([q.z for q in queries]), dim=1).double() @ bank.z.double().T).exp().mean()
    assert bank.log_norm == pytest.approx(wanted.log().item(), abs=0.02)


def test_slots_begin_as_their_row_and_move_by_half() -> None:
    bank = Bank([10], 8, 0)
    begun = bank.z.clone()
    first, then = keys([2, 5]), keys([5, 7], seed=1)
    bank.meet(first)
    v, w = normalize(first.z, dim=1), normalize(then.z, dim=1)
    torch.testing.assert_close(bank.z[[2, 5]], v)
    bank.update(then, 0.5)
    torch.testing.assert_close(bank.z[5], normalize(0.5 * v[1] + 0.5 * w[0], dim=0))
    torch.testing.assert_close(bank.z[7], w[1])
    bank.update(keys([2], seed=2), 0.9)
    torch.testing.assert_close(bank.z[2], normalize(0.9 * v[0] + 0.1 * normalize(keys([2], seed=2).z[0], dim=0), dim=0))
    assert bank.seen.nonzero().flatten().tolist() == [2, 5, 7]
    untouched = [0, 1, 3, 4, 6, 8, 9]
    assert torch.equal(bank.z[untouched], begun[untouched])


def test_a_vector_without_direction_is_no_data() -> None:
    bank = Bank([4], 8, 0)
    nothing = Embedded(torch.zeros(2, 8), torch.tensor([0, 1]), torch.tensor([0, 1]))
    bank.update(nothing, 0.5)
    assert not bank.seen.any()
    bank.meet(keys([1]))
    held = bank.z[1].clone()
    bank.update(nothing, 0.5)
    torch.testing.assert_close(bank.z[1], held)
    assert bank.seen.tolist() == [False, True, False, False]


def test_its_state_is_all_that_it_is() -> None:
    bank, other = Bank([20], 8, 3), Bank([20], 8, 3)
    other.load(bank.state())
    assert other.log_norm is None
    bank.estimate([keys([1, 2])], 5.0, 30, World())
    bank.meet(keys([1, 2, 9], [4, 4, 5]))
    other.load({name: t.clone() for name, t in bank.state().items()})
    assert other.log_norm == bank.log_norm
    assert torch.equal(other.z, bank.z)
    rows = keys([1, 9], [4, 5])
    assert torch.equal(all_of(other, rows, 9, 1)[0], all_of(bank, rows, 9, 1)[0])
