"""What a batch is, as adapters import it."""

from __future__ import annotations

import pickle

import pytest
import torch
from pretended import Gpu, OnGpu
from torch import Tensor

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


def test_rows_of_a_batch_on_the_gpu_are_taken_by_places_of_either_device(gpu: Gpu) -> None:
    batch = Batch({"x": torch.arange(6.0, device="cuda")}, torch.arange(10, 16))
    for places in (torch.tensor([4, 1]), torch.tensor([4, 1]).to("cuda"), slice(1, 3)):
        some = batch[places]
        assert isinstance(some.get("x"), OnGpu)
        assert some.get("x").held.tolist() == ([1.0, 2.0] if isinstance(places, slice) else [4.0, 1.0])
        assert type(some.row) is Tensor
        assert some.row.tolist() == ([11, 12] if isinstance(places, slice) else [14, 11])
