"""On several ranks every loss and gradient is that of one process on all rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from objective_ranks import FUNCTIONS, OBJECTIVES, outcomes
from ranks import run_ranks


def close(found: Any, wanted: Any, name: str) -> None:
    torch.testing.assert_close(
        torch.tensor(found, dtype=torch.float64), torch.tensor(wanted, dtype=torch.float64),
        rtol=1e-9, atol=1e-12, msg=lambda text: f"{name}: {text}",
    )  # fmt: skip


@pytest.mark.parametrize("splits", [[[4, 4], [3, 5], [0, 6]], [[2, 2, 2], [4, 0, 3], [0, 1, 0]], [[2, 1, 0, 3]]])
def test_every_objective_and_function_over_ranks(splits: list[list[int]]) -> None:
    results = run_ranks(outcomes, len(splits[0]), splits)
    for at, counts in enumerate(splits):
        (alone,) = outcomes([[sum(counts)]])
        ranks = [result[at] for result in results]
        for name in OBJECTIVES:
            for found in ranks:  # DDP has taken the mean
                for got, wanted in zip(found[name], alone[name], strict=True):
                    close(got, wanted, f"{name} {counts}")
        for name in (f"functional.{f}" for f in FUNCTIONS):
            for found in ranks:
                close(found[name][0], alone[name][0], f"{name} {counts}")
            for number, wanted in enumerate(alone[name][1:], start=1):
                shares = [found[name][number] for found in ranks]
                rows = isinstance(wanted, list)  # of each rank its own; of a scalar its part
                close(
                    [x for share in shares for x in share] if rows else sum(shares), wanted, f"{name} {counts} {number}"
                )
