"""Queues, momentum keys and explicit negatives on two real ranks, against one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ranked_memory import remembered
from ranks import run_ranks
from toys import rows


def data() -> list[dict[str, Any]]:
    """Rows of which some bring a negative."""
    found = rows(40)
    for i, row in enumerate(found):
        row["c"] = None if i % 3 == 0 else found[i - 7]["b"]
    return found


@pytest.mark.parametrize("chunk", [None, 2])
def test_ranks_remember_and_learn_what_one_process_does(chunk: int | None) -> None:
    alone = remembered(data(), None)
    assert len({tuple(row) for row in alone["queue:a-a:a:strong:1:z"]}) == 14
    for rank in run_ranks(remembered, 2, data(), chunk):
        assert rank.keys() == alone.keys()
        for name, values in alone.items():
            torch.testing.assert_close(torch.tensor(rank[name]), torch.tensor(values), rtol=1e-3, atol=2e-5, msg=name)
