from __future__ import annotations

import pytest
import torch

from multicl import Pair
from multicl.data.slice import Slice

ROWS = [7, 3, 9, 4]
PART = Slice({}, torch.tensor(ROWS), {"a-b": torch.tensor(ROWS) + 100}, scores={"a-b": torch.tensor(ROWS[:3]) / 2.0})


@pytest.mark.parametrize("some", [ROWS, [9, 7], [4, 3, 9, 7], []])
def test_rows_find_their_ids_in_any_order(some: list[int]) -> None:
    assert PART.ids_of(Pair("a", "b"), torch.tensor(some, dtype=torch.int64)).tolist() == [n + 100 for n in some]


@pytest.mark.parametrize("some", [ROWS[:3], [9, 7]])
def test_and_their_scores_which_mined_rows_lack(some: list[int]) -> None:
    assert PART.scores_of(Pair("a", "b"), torch.tensor(some)).tolist() == [n / 2 for n in some]


def test_where_all_are_there_in_order_nothing_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "searchsorted", None)
    assert PART.ids_of(Pair("a", "b"), torch.tensor(ROWS)).tolist() == [n + 100 for n in ROWS]
    assert PART.scores_of(Pair("a", "b"), torch.tensor(ROWS[:3])).tolist() == [3.5, 1.5, 4.5]


def test_rows_of_another_slice_are_noticed() -> None:
    with pytest.raises(AssertionError, match="rows of another slice"):
        PART.ids_of(Pair("a", "b"), torch.tensor([7, 8]))
