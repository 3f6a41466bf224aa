from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multicl.training.queue import Queue
from multicl.types import Embedded, InputError

if TYPE_CHECKING:
    from pretended import Gpu


def keys(first: int, n: int, dim: int = 2) -> Embedded:
    row = torch.arange(first, first + n)
    return Embedded(row[:, None] * torch.ones(dim), row, row + 100)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 9), counts=st.lists(st.integers(0, 21), max_size=8))
def test_it_holds_the_last_keys_whatever_the_batches_and_the_size(size: int, counts: list[int]) -> None:
    queue, every = Queue(size, 2), list[int]()
    for n in counts:
        queue.push(keys(len(every), n))
        every += range(len(every), len(every) + n)
    held = queue.keys()
    assert sorted(held.row.tolist()) == every[-size:]
    assert len(queue) == min(size, len(every))
    assert torch.equal(held.z, held.row[:, None] * torch.ones(2))
    assert torch.equal(held.id, held.row + 100)


def test_what_it_starts_from_is_never_taken_for_data() -> None:
    assert [len(t) for t in (Queue(5, 2).keys().z, Queue(5, 2).keys().row)] == [0, 0]


def test_lightly_a_resumed_queue_goes_on_where_it_was() -> None:
    whole, first, again = Queue(4, 2), Queue(4, 2), Queue(4, 2)
    for queue in (whole, first):
        queue.push(keys(0, 3))
        queue.push(keys(3, 3))
    again.load({name: t.clone() for name, t in first.state().items()})
    for queue in (whole, again):
        queue.push(keys(6, 1))
    for name, t in whole.state().items():
        assert torch.equal(t, again.state()[name]), name


def test_another_size_does_not_load() -> None:
    with pytest.raises(RuntimeError):
        Queue(3, 2).load(Queue(4, 2).state())
    with pytest.raises(RuntimeError, match=r"z is \[3, 2\], not \[1, 2\]"):
        Queue(3, 2).load(Queue(1, 2).state())


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(InputError, match=r"a queue of width 3 cannot take keys of shape \[2, 2\]"):
        Queue(3, 3).push(keys(0, 2))
    with pytest.raises(InputError, match="a queue's size must be 1 or more, got 0"):
        Queue(0, 3)


def test_keys_are_copied_in_one_piece_and_at_the_end_in_two(gpu: Gpu) -> None:
    queue = Queue(6, 2, "cuda")
    z, row = torch.ones(4, 2, device="cuda"), torch.arange(4, device="cuda")
    launches = []
    for _ in range(2):
        gpu.clear()
        queue.push(Embedded(z, row, row))
        launches.append(gpu.launches)
    # a copy of each tensor and piece, and slices of both sides, which count here and are none on a GPU
    assert launches[0] <= 3 * (1 + 3)
    assert launches[1] <= 3 * (2 + 5)
    assert sorted(queue.keys().row.tolist()) == [0, 1, 2, 2, 3, 3]
    assert not gpu.waits
