from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multicl.pairs import View
from multicl.towers import Request
from multicl.training.chunks import cut
from multicl.training.looks import Look
from multicl.types import Batch

READERS = (Request(View("a", "weak", 0), None, ("joint",), (1, 2)), Request(View("b", "weak", 0), None, ("own",), (3,)))


def look(batch: Batch | None) -> Look:
    return Look(batch, lambda part: part.replace(viewed=part.get("x") + 1), READERS)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 50))
def test_chunks_are_few_equal_and_hold_every_row_once(rows: int, size: int) -> None:
    chunks = cut(look(Batch({"x": torch.arange(rows)})), size)
    found = [chunk.requests()[0].batch for chunk in chunks]
    assert torch.cat([batch.row for batch in found if batch]).tolist() == list(range(rows))
    lengths = [len(batch) for batch in found if batch]
    assert len(chunks) == -(-rows // size)
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(1, 25))
def test_rows_of_unequal_length_are_sorted_and_trimmed(lengths: list[int], size: int) -> None:
    x = torch.arange(len(lengths) * 12).reshape(-1, 12)
    chunks = cut(look(Batch({"x": x, "lengths": torch.tensor(lengths)}, padded=("x",))), size)
    seen: list[int] = []
    for chunk in chunks:
        batch = chunk.batch()
        assert batch.get("x").shape[1] == max(lengths[row] for row in batch.row.tolist())
        assert torch.equal(batch.get("x")[:, 0], x[chunk.rows, 0])
        seen += batch.row.tolist()
    assert sorted(seen) == list(range(len(lengths)))
    assert [lengths[row] for row in seen] == sorted(lengths, reverse=True)


def test_readers_of_a_look_get_one_view_each_with_its_seed() -> None:
    first, second = cut(look(Batch({"x": torch.arange(4)})), 2)
    a, b = second.requests()
    assert a.batch is b.batch
    assert a.batch is not None
    assert a.batch.get("viewed").tolist() == [3, 4]
    assert (a.seed, b.seed) == ((1, 2, 1), (3, 1))
    assert first.requests()[0].seed == (1, 2, 0)


def test_a_look_without_rows_has_no_chunks() -> None:
    assert cut(look(None), 2) == []
    assert len(look(None)) == 0
    assert [request.batch for request in look(None).requests()] == [None, None]


def test_views_are_kept_while_there_is_room() -> None:
    made: list[int] = []

    def view(batch: Batch) -> Batch:
        made.append(len(batch))
        return batch

    one = Look(Batch({"x": torch.zeros(8, 4)}), view, READERS)
    first, second = cut(one, 4)
    assert first.keep(first.batch(), 100) == 64
    assert second.keep(second.batch(), 36) == 0
    for chunk in (first, first, second, second):
        chunk.batch()
    assert made == [4, 4, 4, 4]
