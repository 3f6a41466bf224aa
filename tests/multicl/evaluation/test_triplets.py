from __future__ import annotations

import pytest
import torch

from multicl import InputError
from multicl.evaluation import triplet_accuracy


def test_counts_the_anchors_that_are_nearer_to_their_positive() -> None:
    a = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [3.0, 0.0]])
    p = torch.tensor([[5.0, 1.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    n = torch.tensor([[0.1, 0.1], [0.0, 0.1], [-1.0, 0.0], [1.0, 1.0]])  # nearer; not; nearer; a tie
    assert triplet_accuracy(a, p, n) == 0.5
    assert triplet_accuracy(a, a, a) == 0


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(InputError, match="anchors has 3 rows and negatives has 2"):
        triplet_accuracy(torch.randn(3, 2), torch.randn(3, 2), torch.randn(2, 2))
