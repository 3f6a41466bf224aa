"""What a batch is, as adapters import it."""

from __future__ import annotations

import pickle

import pytest
import torch

from multicl.types import Batch


def padded() -> Batch:
    lengths = torch.tensor([2, 4, 1])
    return Batch({"ids": torch.arange(18).reshape(3, 6), "lengths": lengths, "wide": torch.ones(3, 6)}, padded=("ids",))


def test_trimming_cuts_what_is_declared_as_padded_and_nothing_else() -> None:
    batch = padded().trimmed()
    assert batch.get("ids").tolist() == [[0, 1, 2, 3], [6, 7, 8, 9], [12, 13, 14, 15]]
    assert batch.get("wide").shape == (3, 6)
    assert batch[torch.tensor([2, 0])].trimmed().get("ids").tolist() == [[12, 13], [0, 1]]


@pytest.mark.parametrize(
    "batch", [Batch({"x": torch.ones(2, 5)}), Batch({"x": torch.ones(2, 5), "lengths": torch.ones(2)})]
)
def test_a_batch_that_declares_nothing_stays_whole(batch: Batch) -> None:
    assert batch.trimmed().get("x").shape == (2, 5)


def test_what_is_padded_stays_known() -> None:
    batch = padded()
    for other in (batch[:2], batch.replace(more=torch.ones(3)), batch.to("cpu"), pickle.loads(pickle.dumps(batch))):
        assert other.padded == ("ids",)


def test_padded_names_tensors_that_are_there() -> None:
    with pytest.raises(ValueError, match=r"padded names \['idz'\], but the tensors are \['ids'\]"):
        Batch({"ids": torch.ones(2, 3)}, padded=("idz",))
