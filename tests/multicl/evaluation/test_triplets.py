from __future__ import annotations

import pytest
import torch
from toys import Vectors

from multicl import InputError
from multicl.data.rows import Rows
from multicl.evaluation import held_out, triplet_accuracy


def test_counts_the_anchors_that_are_nearer_to_their_positive() -> None:
    a = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [3.0, 0.0]])
    p = torch.tensor([[5.0, 1.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    n = torch.tensor([[0.1, 0.1], [0.0, 0.1], [-1.0, 0.0], [1.0, 1.0]])  # nearer; not; nearer; a tie
    assert triplet_accuracy(a, p, n) == 0.5
    assert triplet_accuracy(a, a, a) == 0
    low, high = triplet_accuracy(a, p, n).interval()
    assert 0 <= low < 0.5 < high <= 1


def test_its_interval_is_that_of_a_share() -> None:
    dice = torch.Generator().manual_seed(0)
    a, p, n = torch.randn(3, 400, 8, generator=dice)
    found = triplet_accuracy(a, p, n)
    low, high = found.interval()
    assert (high - low) / 3.92 == pytest.approx((found * (1 - found) / 400) ** 0.5, rel=0.15)


def test_rows_that_have_all_three_count() -> None:
    rows = Rows([{"x": [1.0, 0.0], "y": [1.0, 0.1], "z": third} for third in ([0.0, 1.0], [2.0, 0.0], None)])
    nodes = {name: Vectors(size=2) for name in "xyz"}
    found = held_out.triplets(lambda node, cells, skipped: torch.tensor(cells), list("xyz"), rows, nodes)
    assert found == {"triplets": 0.5}
    with pytest.raises(InputError, match="no row has all of"):
        held_out.triplets(lambda node, cells, skipped: torch.zeros(0, 2), list("xyz"), rows.take([2]), nodes)


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(InputError, match="anchors has 3 rows and negatives has 2"):
        triplet_accuracy(torch.randn(3, 2), torch.randn(3, 2), torch.randn(2, 2))
