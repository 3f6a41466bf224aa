from __future__ import annotations

import pytest
import torch

from multicl import InputError, NTXent, Pair
from multicl.distributed import World
from multicl.functional import nt_xent
from multicl.types import Context, Embedded


def view(seed: int) -> Embedded:
    z = torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))
    return Embedded(z, torch.arange(6), torch.arange(6))


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_is_the_function_of_that_name(similarity: str) -> None:
    a, b = view(0), view(1)
    module = NTXent(0.7, similarity=similarity).build((4, 4))  # type: ignore[arg-type]
    loss = module(a, b, Context(World(), symmetric=True))["loss"]
    torch.testing.assert_close(loss, nt_xent(a.z, b.z, 0.7, similarity=similarity))  # type: ignore[arg-type]


def test_two_nodes_are_refused() -> None:
    assert Pair("x", "x", NTXent()).symmetric
    with pytest.raises(InputError, match="pair 'x-y': NTXent compares two views of one node"):
        Pair("x", "y", NTXent())
    with pytest.raises(InputError, match="NTXent compares two views of one node; for two, use InfoNCE"):
        NTXent().build((4, 4))(view(0), view(1), Context(World()))
