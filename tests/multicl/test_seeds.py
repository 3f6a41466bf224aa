from __future__ import annotations

import random

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multicl.seeds import Draws, epoch_order, hash62, hashes62, row_seeds, seed_everything

few = settings(deadline=None, max_examples=25)


def test_hashes_are_the_same_on_every_machine_and_for_ever() -> None:
    assert hash62("label", "cat") == 388727968944728742
    assert hash62("row", 0) == 1287273986769486445
    assert row_seeds(torch.tensor([0, 1]), 7).tolist() == [3252772546181871280, -3793256708204481851]
    assert epoch_order(1, 2, 10).tolist() == [8, 5, 6, 0, 9, 1, 4, 3, 7, 2]


@few
@given(st.lists(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.booleans()), max_size=4))
def test_a_hash_has_62_bits(what: list[object]) -> None:
    assert 0 <= hash62(*what) < 1 << 62
    assert hash62(*what) == hash62(*what)


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=9))
def test_hashes_of_numbers_are_those_of_each(numbers: list[int]) -> None:
    for given_as in (numbers, iter(numbers), np.array(numbers, dtype=np.int64)):
        found = hashes62("röw", given_as)
        assert found.dtype == np.int64
        assert found.tolist() == [hash62("röw", number) for number in numbers]


def test_parts_of_a_hash_do_not_run_together() -> None:
    assert len({hash62("ab", "c"), hash62("a", "bc"), hash62("abc"), hash62("c", "ab")}) == 4


@few
@given(st.lists(st.integers(0, 2**60), min_size=1, max_size=50, unique=True), st.integers(0, 9))
def test_rows_have_seeds_of_their_own_whatever_the_batch(rows: list[int], epoch: int) -> None:
    row = torch.tensor(rows)
    seeds = row_seeds(row, 0, epoch, "image")
    assert seeds.dtype == torch.int64
    assert len(set(seeds.tolist())) == len(rows)
    assert torch.equal(row_seeds(row.flip(0), 0, epoch, "image"), seeds.flip(0))
    assert not torch.isin(row_seeds(row, 0, epoch, "text"), seeds).any()


def test_draws_depend_on_what_they_are_for_alone() -> None:
    random.seed(1)
    first = [Draws(0, 1, 2).random(), Draws(0, 1, 2).randint(0, 999), Draws(0, 1, 2).gauss(0, 1)]
    random.seed(2)
    assert [Draws(0, 1, 2).random(), Draws(0, 1, 2).randint(0, 999), Draws(0, 1, 2).gauss(0, 1)] == first
    assert len({Draws(0, epoch, row).random() for epoch in range(20) for row in range(20)}) == 400


def test_every_kind_of_draw_is_noted() -> None:
    assert not Draws(0).used
    for draw in (
        lambda rng: rng.random(),
        lambda rng: rng.randint(0, 5),
        lambda rng: rng.choice("abc"),
        lambda rng: rng.choices("abc", k=2),
        lambda rng: rng.sample(range(9), 3),
        lambda rng: rng.shuffle([1, 2, 3]),
        lambda rng: rng.uniform(0, 1),
        lambda rng: rng.gauss(0, 1),
        lambda rng: rng.normalvariate(),
        lambda rng: rng.betavariate(1, 1),
        lambda rng: rng.randbytes(2),
        lambda rng: rng.getrandbits(3),
    ):
        rng = Draws(0)
        draw(rng)  # type: ignore[no-untyped-call]
        assert rng.used


def test_draws_leave_the_global_generators_alone() -> None:
    seed_everything(0)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index, union-attr]
    Draws(0).random()
    epoch_order(0, 0, 9)
    row_seeds(torch.arange(3), 0)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index, union-attr]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_seeding_everything_seeds_every_generator() -> None:
    def drawn(*what: object) -> tuple[float, float, float]:
        seed_everything(*what)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    assert drawn(1, "a") == drawn(1, "a")
    assert all(x != y for x, y in zip(drawn(1, "a"), drawn(1, "b"), strict=True))


@few
@given(st.integers(0, 2**31), st.integers(0, 1000), st.integers(1, 200))
def test_an_epoch_visits_every_row_once(seed: int, epoch: int, rows: int) -> None:
    order = epoch_order(seed, epoch, rows)
    assert sorted(order.tolist()) == list(range(rows))
    assert np.array_equal(order, epoch_order(seed, epoch, rows))


def test_epochs_and_seeds_differ_in_order() -> None:
    orders = [tuple(epoch_order(seed, epoch, 50).tolist()) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9
