"""Samples that are all alike, kept as one tensor: slices are what they are without, decoded once, gathered on a GPU."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from pretended import Gpu, OnGpu
from slices import plain
from torch import Tensor, nn
from toys import Vectors, rows

from multicl import Data, Pair, Train, Trainer
from multicl.data.loading import Reader, slices
from multicl.data.mixture import Mixture
from multicl.data.rows import Rows, open_rows
from multicl.data.slice import Slice
from multicl.types import Batch

CUDA = torch.device("cuda")


@dataclass(frozen=True)
class Even(Vectors):
    """Vectors of six numbers, at times of seven; notes what it loads."""

    seen: list[Any] = field(default_factory=list, compare=False)

    def load(self, raw: Any, rng: random.Random | None) -> Tensor:
        self.seen.append(raw)
        return torch.tensor(raw) if isinstance(raw, list) and len(raw) == 7 else super().load(raw, rng)

    def alike(self, sample: Tensor) -> Hashable | None:
        return len(sample)

    def collate(self, samples: Sequence[Tensor]) -> Batch:
        longest = max(map(len, samples))
        return Batch({"x": torch.stack([nn.functional.pad(sample, (0, longest - len(sample))) for sample in samples])})


@dataclass(frozen=True)
class Lengths(Even):
    def collate(self, samples: Sequence[Tensor]) -> Batch:
        return super().collate(samples).replace(lengths=torch.tensor([len(sample) for sample in samples]))


def holed(count: int = 40) -> list[dict[str, Any]]:
    """Some cells are null, some cannot be read."""
    cells = rows(count)
    for i, row in enumerate(cells):
        row["a"] = None if i % 7 == 2 else [1.0] if i % 11 == 3 else row["a"]
        row["b"] = None if i % 5 == 1 else row["b"]
    return cells


def reader(data: Any, terms: Sequence[Pair] = (Pair("a", "b"),), **modalities: Any) -> Reader:
    return Reader(open_rows(data), modalities or {"a": Even(), "b": Even()}, terms)


def everything(made: Reader, rank: int = 0, world: int = 1, start: int = 0, **options: Any) -> list[dict[str, Any]]:
    parts = slices(made, Data(**{"workers": 0, **options}), 8, rank, world, start, 15, pin=False)
    return [plain(part) for part in parts]


def seen(made: Reader, source: str = "a") -> list[Any]:
    modality = made.modalities[source]
    assert isinstance(modality, Even)
    return modality.seen


# Slices


@pytest.mark.parametrize(("rank", "world", "start"), [(0, 1, 0), (1, 3, 0), (0, 1, 7)])
def test_slices_are_those_that_are_decoded_anew(rank: int, world: int, start: int) -> None:
    made = reader(holed())
    found = everything(made, rank, world, start)
    assert found == everything(reader(holed(), a=Vectors(), b=Vectors()), rank, world, start, cache_gb=0.0)
    assert any(part["skipped"] for part in found)
    assert set(made.cache.stores) == {"a", "b"}
    assert len(made.cache) == 0
    asked = {n for part in found for n in part["row"]}
    assert len(seen(made)) == len([n for n in asked if n % 7 != 2])  # once each, the null ones never


def test_a_source_that_no_row_of_a_slice_has_is_none() -> None:
    made = reader([{"a": [0.0] * 6, "b": None if i < 3 else [1.0] * 6} for i in range(6)])
    made.keep(1e9)
    for _ in range(2):
        assert made.slice([0, 1, 2], 0).batches["b"] is None
        assert made.slice([], 0).batches["a"] is None
    batch = made.slice([4, 0, 5], 0).batches["b"]
    assert batch is not None
    assert batch.row.tolist() == [4, 5]


def test_mined_rows_that_come_several_times_are_read_once() -> None:
    wanted = {"a-b": [5, 4, 5, 12, 5]}
    found = []
    for room in (0.0, 1e9):
        made = reader(rows(20))
        made.keep(room)
        mined = made.with_mined(made.slice([4, 9], 0), wanted).mined["a-b"]
        assert mined is not None
        found.append((mined.row.tolist(), mined.get("x").tolist()))
        if room:
            assert len(seen(made, "b")) == 4
    assert found[0] == found[1]
    assert found[0][0] == wanted["a-b"]


def test_of_a_mixture_only_sets_that_have_a_column_take_room() -> None:
    sets = [Rows(rows(16)), Rows([{"b": row["b"]} for row in rows(24, seed=1)])]
    mixed = [Reader(Mixture(sets), {"a": m(), "b": m()}, [Pair("a", "b")]) for m in (Even, Vectors)]
    assert everything(mixed[0]) == everything(mixed[1], cache_gb=0.0)
    assert [store.tensors["x"].shape for store in mixed[0].cache.stores.values()] == [(16, 6), (40, 6)]


# Where there is no store


def test_samples_of_several_sizes_are_kept_one_by_one_from_the_first_odd_one_on() -> None:
    cells = rows(40)
    cells[3]["a"] = [0.5] * 7
    made, bare = reader(cells), reader(cells, a=Even(), b=Vectors())
    assert everything(made) == everything(bare, cache_gb=0.0)
    assert set(made.cache.stores) == {"b"}
    assert len(made.cache) == len(made.cache.found["a"]) == 40
    assert len(seen(made)) <= 2 * 40
    assert made.cache.used == 39 * (24 + 200) + 28 + 200


def test_what_is_drawn_anew_in_each_epoch_is_not_kept() -> None:
    cells = rows(16)
    cells[5]["a"] = [cells[5]["a"], cells[6]["a"], cells[7]["a"]]
    terms = [Pair("a", "a")]
    made = reader(cells, terms, a=Even())
    found = everything(made)
    assert found == everything(reader(cells, terms, a=Vectors()), cache_gb=0.0)
    assert not made.cache.stores
    assert set(made.cache.found["a"]) == set(range(16)) - {5}


def test_what_has_lengths_or_is_not_alike_or_goes_to_loader_processes_is_in_no_store() -> None:
    made = reader(rows(16), [Pair("a", "a")], a=Lengths())
    everything(made)
    assert not made.cache.stores
    assert len(made.cache) == 16
    many = reader(rows(16), [Pair("a", "a")], a=Even())
    parts = list(slices(many, Data(workers=1), 8, 0, 1, 0, 2, pin=False))
    assert len(parts) == 2
    assert not many.cache.stores
    assert len(many.cache) == 0


# Memory


def test_a_store_takes_the_bytes_of_its_rows_and_no_more_than_there_is_room() -> None:
    whole = 40 * 6 * 4
    made = reader(rows(40), [Pair("a", "a")], a=Even())
    made.keep(whole)
    made.slice(range(40), 0)
    assert made.cache.stores["a"].taken == whole
    assert (made.cache.left, len(made.cache)) == (0, 0)
    less = reader(rows(40), [Pair("a", "a")], a=Even())
    less.keep(whole - 1)
    less.slice(range(40), 0)
    assert not less.cache.stores
    assert len(less.cache) == (whole - 1) // (24 + 200)


def test_two_sources_share_the_room() -> None:
    made = reader(rows(40))
    found = everything(made, cache_gb=1.5 * 40 * 6 * 4 / 1e9)
    assert found == everything(reader(rows(40)), cache_gb=0.0)
    assert set(made.cache.stores) == {"a"}
    assert len(made.cache) == 480 // (24 + 200)
    assert made.cache.left >= 0


def test_a_reader_that_is_sent_to_another_process_takes_nothing_along() -> None:
    made = reader(rows(16))
    everything(made)
    light = made.__getstate__()["cache"]
    assert (len(light), light.stores, set(light.found)) == (0, {}, {"a", "b"})
    made.keep(0.0)
    assert not made.cache.stores


# On a GPU


def on_gpu(made: Reader, pin: bool = False) -> list[Slice]:
    return list(slices(made, Data(workers=0), 8, 0, 1, 0, 15, pin, CUDA))


def test_a_batch_is_gathered_on_the_gpu_for_which_nobody_waits(gpu: Gpu) -> None:
    wanted = everything(reader(holed()))
    gpu.clear()
    made = reader(holed())
    parts = on_gpu(made)
    assert not gpu.waits
    for part, there in zip(parts, wanted, strict=True):
        for source, batch in part.batches.items():
            assert batch is not None
            assert isinstance(batch.get("x"), OnGpu)
            assert type(batch.row) is Tensor
            assert (batch.get("x").held.tolist(), batch.row.tolist()) == there["batches"][source]
    assert made.cache.left == 4e9
    gpu.clear()
    made.slice(range(8), 0)
    assert gpu.launches == 2 * 2  # a gather and a view of its result for each of two sources
    assert not gpu.waits


def test_a_store_that_would_fill_the_gpu_stays_on_the_cpu(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = 40 * 6 * 4
    for free, place in ((16 * whole, "cuda"), (16 * whole - 1, "cpu")):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 1 << 40))
        made = reader(rows(40), [Pair("a", "a")], a=Even())
        (batch,) = on_gpu(made)[-1].batches.values()
        assert batch is not None
        assert batch.device.type == place
        assert made.cache.stores["a"].taken == (0 if place == "cuda" else whole)


def test_copies_go_by_page_locked_memory_and_what_is_there_already_is_not_locked(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked: list[Tensor] = []

    def lock(t: Tensor) -> Tensor:
        locked.append(t)
        return t

    monkeypatch.setattr(Tensor, "pin_memory", lock)
    made = reader(rows(16), [Pair("a", "a")], a=Even())
    made.keep(1e9, CUDA, pin=True)
    part = made.slice([3, 1], 0)
    x, at = locked
    assert (x.shape, at.tolist()) == ((2, 6), [0, 1])
    locked.clear()
    made.slice([1, 3, 3], 1)
    assert [t.tolist() for t in locked] == [[1, 0, 0]]
    locked.clear()
    part.pin_memory()
    assert [t.tolist() for t in locked] == [[3, 1]]


# Training


def test_a_run_is_the_same_with_a_store() -> None:
    def train(cache: float) -> tuple[Reader, dict[str, Tensor]]:
        train = Train(batch_size=8, steps=12)
        trainer = Trainer({"a": Even(), "b": Even()}, [Pair("a", "b")], holed(), train=train)
        trainer.settings = Data(cache_gb=cache, workers=0)
        trainer.fit()
        return trainer.reader, trainer.towers.state_dict()

    (kept, found), (bare, wanted) = train(1.0), train(0.0)
    assert (set(kept.cache.stores), set(bare.cache.stores)) == ({"a", "b"}, set())
    for name, value in found.items():
        assert torch.equal(value, wanted[name]), name
