"""A target on two real ranks under DDP, against one process."""

from __future__ import annotations

import torch
from ranked_targets import outcomes
from ranks import run_ranks
from steps import apart

CASES = [(first, chunk, paired) for first in (4, 1, 8) for chunk in (None, 2) for paired in (True, False)]


def test_the_mean_is_over_the_labelled_rows_of_all_ranks() -> None:
    results = run_ranks(outcomes, 2, CASES)
    alone = outcomes([(8, None, paired) for _, _, paired in CASES])
    for at, (case, wanted) in enumerate(zip(CASES, alone, strict=True)):
        for rank in results:
            found = rank[at]
            assert abs(found["loss"] - wanted["loss"]) < 1e-6, case
            assert found["logged"]["labelled"] == 3
            for name, value in wanted["logged"].items():
                assert abs(found["logged"][name] - value) < 1e-6, (case, name)
            grads, right = ({k: torch.tensor(g) for k, g in x["grads"].items()} for x in (found, wanted))
            assert apart(grads, right) < 1e-5, case
