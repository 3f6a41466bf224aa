"""Modules whose forward pass moves what decides it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from steps import Built, apart, kept, looks, step
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from multicl import Head, InfoNCE, Pair
from multicl.seeds import seed_everything
from multicl.towers import Towers
from multicl.training.chunk_size import _compute
from multicl.training.looks import Look
from multicl.training.states import states
from multicl.types import Batch


class Whitened(nn.Module):
    """Rows less an average that each pass moves: `how` writes into the buffer, unseen by autograd, or makes another."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.register_buffer("mean", torch.zeros(8), persistent=False)
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        new = self.mean.lerp(x.detach().mean(0), 0.5)
        if self.how == "write":
            self.mean.data.copy_(new)
        else:
            self.mean = new
        self.count += 1
        return torch.tanh((x - new) * int(self.count))


NETS: dict[str, Callable[[], nn.Module]] = {
    "spectral": lambda: spectral_norm(nn.Linear(6, 8)),
    "write": lambda: nn.Sequential(nn.Linear(6, 8), Whitened("write")),
    "new": lambda: nn.Sequential(nn.Linear(6, 8), Whitened("new"), nn.BatchNorm1d(8)),
}


def one(net: str, head: Head | None = None) -> tuple[Towers, list[Look]]:
    seed_everything("test")
    towers = Towers({"a": Built(net=NETS[net])}, [Pair("a", "a", InfoNCE(0.3))], head or Head(dim=7))
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(2))
    return towers, looks(towers, {"a": Batch({"x": x})})


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("size", [2, 4, 8])
def test_the_gradient_and_the_state_are_those_of_the_same_chunks_with_their_graphs_kept(net: str, size: int) -> None:
    towers, seen = one(net)
    plain = copy.deepcopy(towers)
    loss, wanted = kept(plain, seen, size)
    outcome, grads = step(towers, seen, size)
    torch.testing.assert_close(outcome.loss, loss)
    assert apart(grads, wanted) < 1e-5
    for mine, theirs in zip(states(towers), states(plain), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert any(not torch.equal(mine, before) for mine, before in zip(states(towers), states(one(net)[0]), strict=True))


def test_what_is_in_evaluation_has_no_state_that_moves() -> None:
    towers, _ = one("spectral")
    assert len(states(towers)) == 2
    assert not states(towers.eval())


@pytest.mark.parametrize("net", NETS)
def test_a_trial_of_a_chunk_size_leaves_it_as_it_was(net: str) -> None:
    towers, seen = one(net)
    before = states(towers)
    _compute(towers, seen, 4, 0)
    assert all(torch.equal(mine, was) for mine, was in zip(states(towers), before, strict=True))
