from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from steps import Words, cells, looks, three
from torch import Tensor, nn
from toys import Vectors

from multicl import Head, InputError, Pair
from multicl.distributed import World
from multicl.towers import Towers
from multicl.training.chunk_size import by_measure, by_trial, find_chunk_size, free_memory
from multicl.types import Batch


class Full(nn.Module):
    """Runs out of memory beyond some elements; notes what was tried."""

    def __init__(self, room: int, width: int) -> None:
        super().__init__()
        self.room, self.width = room, width
        self.net = nn.Sequential(nn.Linear(6, width), nn.BatchNorm1d(width))
        self.tried: list[int] = []

    def forward(self, batch: Batch) -> Tensor:
        x = batch.get("x")
        self.tried.append(len(x))
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        out: Tensor = self.net(x)
        return out


@dataclass(frozen=True)
class Tight(Vectors):
    room: int = 8

    def build(self, weights: bool = True) -> nn.Module:
        return Full(self.room, self.width)


def tight(room: int) -> tuple[Towers, Full, list[Any]]:
    towers = Towers({"a": Tight(room=room)}, [Pair("a", "a")], Head(dim=4))
    net: Any = towers.encoders["a"]
    return towers, net, looks(towers, {"a": Batch({"x": torch.randn(32, 6)})})


def test_an_accelerator_tries_and_halves() -> None:
    towers, net, seen = tight(room=8)
    fits = by_trial(towers, seen, reserved=1000)
    assert [size for size in (32, 16, 8, 4) if fits(size, size == 32)] == [8, 4]
    assert net.tried == [32, 16, 8, 8, 4, 4]  # two views, one after the other


def test_a_trial_leaves_no_trace() -> None:
    towers, net, seen = tight(room=16)
    before = {name: t.clone() for name, t in towers.state_dict().items()}
    by_trial(towers, seen, reserved=0)(8, False)
    by_measure(towers, seen[:1], 1e9)
    assert all(torch.equal(t, before[name]) for name, t in towers.state_dict().items())
    assert all(p.grad is None for p in towers.parameters())
    assert net.tried


def test_another_error_is_not_taken_for_a_lack_of_memory() -> None:
    towers, net, seen = tight(room=8)
    net.net[0] = nn.Linear(5, 8)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        by_trial(towers, seen, reserved=0)(8, False)


def test_a_cpu_multiplies_what_a_few_rows_hold() -> None:
    torch.manual_seed(0)
    towers = Towers({"w": Words(width=64)}, [Pair("w", "w")], Head(layers=0))
    batch = Words().collate([torch.arange(1 + i % 40) for i in range(64)])
    seen = looks(towers, {"w": batch})
    kept: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    longest = batch[batch.get("lengths").argsort(descending=True)[:16]].trimmed()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        z = towers(looks(towers, {"w": longest})[0].requests())
    kept.pop(towers.encoders["w"].table.weight.untyped_storage().data_ptr(), None)  # type: ignore[union-attr,operator]
    assert z
    row = sum(kept.values()) / 16
    assert by_measure(towers, seen, 32 * row * 1.1)(32, False)
    assert not by_measure(towers, seen, 32 * row * 0.9)(32, False)
    assert not by_measure(towers, seen, 32 * row * 1.1)(32, True)  # uncut, both views are held
    assert by_measure(towers, seen, 64 * row * 1.1)(32, True)


def test_the_chunk_halves_until_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    towers = three()
    seen = looks(towers, cells(towers, 8))
    sizes = {}
    for free in (1e9, 4e4, 1e4, 3e3):
        monkeypatch.setattr("multicl.training.chunk_size.free_memory", lambda free=free: free)
        sizes[free] = find_chunk_size(towers, seen, 8, World())
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)
    assert sizes[1e9] == 8
    assert 1 <= sizes[3e3] < 8
    monkeypatch.setattr("multicl.training.chunk_size.free_memory", lambda: 10)
    with pytest.raises(InputError, match="not even one row at a time fits"):
        find_chunk_size(towers, seen, 8, World())


def test_free_memory_is_shared_among_the_ranks_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    alone = free_memory()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert alone > 1e7
    assert free_memory() == pytest.approx(alone / 4, rel=0.2)
