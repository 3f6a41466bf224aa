from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from slices import numbers, plain
from torch import Tensor, nn
from toys import Vectors, rows

from multicl import Data, InputError, Pair
from multicl.data import equal_files
from multicl.data.ids import content_key, row_id
from multicl.data.loading import Reader, Steps, slices, sources_of
from multicl.data.mixture import Mixture
from multicl.data.rows import Rows, open_rows
from multicl.data.slice import Slice
from multicl.types import BadSample, Batch

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on one core, of two
few = settings(deadline=None, max_examples=25)
AB = {"a": Vectors(), "b": Vectors()}


@dataclass(frozen=True)
class Counting(Vectors):
    """Notes every cell that it loads."""

    seen: list[Any] = field(default_factory=list, compare=False)

    def load(self, raw: Any, rng: random.Random | None) -> Tensor:
        self.seen.append(raw)
        return super().load(raw, rng)


@dataclass(frozen=True)
class Stored(Vectors):
    """Six bytes, in a table or in a file."""

    @property
    def files(self) -> bool:
        return True

    def load(self, raw: Any, rng: random.Random | None) -> Tensor:
        raw = raw.get("bytes") or raw["path"] if isinstance(raw, dict) else raw
        try:
            return super().load(list(raw if isinstance(raw, bytes) else Path(raw).read_bytes()), rng)
        except OSError as error:
            raise BadSample(str(error)) from error


def reader(data: Any = None, terms: Sequence[Pair] = (Pair("a", "b"),), seed: int = 0, **modalities: Any) -> Reader:
    return Reader(open_rows(rows(20) if data is None else data), modalities or AB, terms, seed)


def loaded(
    made: Reader, start: int = 0, steps: int = 6, batch: int = 8, rank: int = 0, world: int = 1, **options: Any
) -> Iterator[Slice]:
    return slices(made, Data(**{"workers": 0, **options}), batch, rank, world, start, steps, pin=False)


# Steps


@few
@given(st.integers(1, 40), st.data(), st.integers(0, 99), st.integers(1, 6))
def test_ranks_share_out_each_batch_and_an_epoch_visits_no_row_twice(
    count: int, data: st.DataObject, seed: int, world: int
) -> None:
    size = data.draw(st.integers(1, count))
    made = reader(rows(count), seed=seed)
    whole = Steps(made, size, 0, 1)
    ranks = [Steps(made, size, rank, world) for rank in range(world)]
    for epoch in range(2):
        seen: list[int] = []
        for step in range(epoch * whole.epoch_steps, (epoch + 1) * whole.epoch_steps):
            batch = whole[step].row.tolist()
            shares = numbers([rank[step] for rank in ranks])
            assert [n for share in shares for n in share] == batch
            assert max(map(len, shares)) - min(map(len, shares)) <= 1
            assert len(batch) == size
            seen += batch
        assert len(set(seen)) == len(seen) == count // size * size
        assert set(seen) <= set(range(count))


def test_every_row_comes_once_an_epoch_in_an_order_of_seed_and_epoch() -> None:
    parts = numbers(loaded(reader(), steps=15, batch=4))
    epochs = [[n for part in parts[i : i + 5] for n in part] for i in (0, 5, 10)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 3
    assert numbers(loaded(reader(), steps=15, batch=4)) == parts
    assert numbers(loaded(reader(seed=1), steps=15, batch=4)) != parts


@pytest.mark.parametrize("start", [0, 1, 2, 3, 7, 11])
def test_a_run_resumed_anywhere_reads_on_as_if_never_broken(start: int) -> None:
    whole = [plain(part) for part in loaded(reader(), steps=12)]
    assert [plain(part) for part in loaded(reader(), start=start, steps=12)] == whole[start:]
    assert [part["epoch"] for part in whole] == [step // 2 for step in range(12)]


def test_loading_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    list(loaded(reader()))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_batch_larger_than_the_data_is_refused(streaming: bool) -> None:
    data = datasets.Dataset.from_list(rows(20))
    made = reader(data.to_iterable_dataset() if streaming else data)
    with pytest.raises(InputError, match=r"the batch \(21\) is larger than the (data|stream) \(20 rows"):
        list(loaded(made, batch=21))


# Loader processes


@pytest.mark.parametrize("kind", ["list", "table"])
def test_loader_processes_change_nothing(kind: str, tmp_path: Path) -> None:
    data: Any = rows(20)
    data[3]["a"] = [data[3]["a"], data[4]["a"]]  # one of two is picked by rng
    data[5]["b"] = [1.0]  # cannot be read
    if kind == "table":
        path = tmp_path / "rows.jsonl"
        for row in data:
            row["a"] = row["a"] if isinstance(row["a"][0], list) else [row["a"]]
        path.write_text("".join(json.dumps(row) + "\n" for row in data))
        data = path
    alone = [plain(part) for part in loaded(reader(data), steps=6, batch=7)]
    helped = loaded(reader(data), steps=6, batch=7, workers=2)
    assert [plain(part) for part in helped] == alone


def test_an_input_error_of_a_loader_process_arrives_clean() -> None:
    cells = np.array([*rows(30), "no row"], dtype=object)
    with pytest.raises(InputError) as caught:
        list(loaded(reader(cells, [Pair("a", "a")], a=Vectors()), steps=1, batch=31, workers=1))
    assert str(caught.value) == "a row must be a dict of columns or a tuple, got str"


ROOT = Path(__file__).parents[3]
SCRIPT = """
import multiprocessing, sys
multiprocessing.get_all_start_methods = lambda: {methods}
from multicl import Data, Pair, Train, Trainer
from toys import Vectors, rows
print("run", __name__)
{own}
t = Trainer({{"a": Own()}}, [Pair("a", "a")], Data(path=sys.argv[1], workers=1), train=Train(batch_size=8, steps=1))
next(t._slices(0))  # as `fit` does, which would import a compiler
print("done")
"""


@pytest.mark.parametrize("methods", [["fork", "spawn", "forkserver"], ["spawn"]], ids=["unix", "windows"])
@pytest.mark.parametrize("own", ["Own = Vectors", "class Own(Vectors): pass"])
def test_a_script_without_a_guard_trains_once_or_is_told_what_to_do(
    tmp_path: Path, own: str, methods: list[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(8)))
    (tmp_path / "script.py").write_text(SCRIPT.format(own=own, methods=methods))
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", tmp_path / "rows.jsonl"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(toys.__file__).parent), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if own == "Own = Vectors":
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("run") == 1
        assert "done" in done.stdout
    else:
        assert "InputError: a loader process died" in done.stderr
        assert "done" not in done.stdout


ENDLESS = """
import sys, time
from multicl import Data, Pair, Train, Trainer
from toys import Vectors
data = Data(path=sys.argv[1], workers=1, streaming=sys.argv[2] == "stream")
t = Trainer({"a": Vectors()}, [Pair("a", "a")], data, train=Train(batch_size=8, steps=99))
stream = t._slices(0)
next(stream)
print("up", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("kind", ["table", "stream"])
def test_loaders_end_when_the_run_is_killed(kind: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(8)))
    (tmp_path / "script.py").write_text(ENDLESS)
    with subprocess.Popen(
        [sys.executable, tmp_path / "script.py", tmp_path / "rows.jsonl", kind],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(toys.__file__).parent), str(ROOT)])},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "up\n"
            helpers = psutil.Process(process.pid).children(recursive=True)
            (server,) = (helper for helper in helpers if helper.children())
            if psutil.LINUX:  # the server has imported torch, and its loaders need not
                assert any("libtorch" in mapped.path for mapped in server.memory_maps())
        finally:
            process.kill()
    assert len(helpers) >= 2  # a server, and the loader that it forked
    _, left = psutil.wait_procs(helpers, timeout=30)
    assert left == []


class Net(nn.Module):
    width = 6

    def __init__(self) -> None:
        super().__init__()
        self.unpicklable = lambda batch: batch

    def forward(self, batch: Batch) -> Tensor:
        return batch.get("x")


def test_loader_processes_are_not_sent_the_users_network() -> None:
    data = rows(8)
    (part,) = loaded(reader(data, [Pair("a", "a")], a=Vectors(Net())), steps=1, workers=1)
    assert sorted(part.row.tolist()) == list(range(8))


def test_an_adapter_that_does_not_pickle_is_named_or_loaded_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Local(Vectors):
        pass

    made = reader(None, [Pair("a", "a")], a=Local())
    with pytest.raises(InputError, match=r"does not pickle .*--data\.workers 0"):
        list(loaded(made, workers=1))
    monkeypatch.setattr("multicl.data.reader.SLOW", 0.0)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(2)), raising=False)
    assert numbers(loaded(made, workers=None)) == numbers(loaded(made))


def test_processes_are_used_where_decoding_is_slow_or_will_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def loader(*_: Any, num_workers: int, **__: Any) -> list[Slice]:
        asked.append(num_workers)
        return []

    monkeypatch.setattr("torch.utils.data.DataLoader", loader)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)), raising=False)
    loaded(reader(), workers=None)
    loaded(reader(), workers=None, cache_gb=0.0)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    loaded(reader(), workers=None, cache_gb=0.0)
    loaded(reader(), workers=3)
    assert asked == [0, 3, 1, 3]


@pytest.mark.parametrize("options", [{"workers": -1}, {"cache_gb": -1.0}, {"cache_gb": float("nan")}])
def test_settings_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        Data(**options)


# Rows with holes, and cells that cannot be read


@pytest.mark.parametrize(
    "make",
    [
        lambda cells: cells,
        lambda cells: [{k: v for k, v in row.items() if v is not None} for row in cells],
        datasets.Dataset.from_list,
        pd.DataFrame,
    ],
)
def test_a_modality_that_a_row_lacks_is_left_out_and_not_counted(make: Any) -> None:
    cells = rows(6)
    cells[1]["a"] = cells[4]["a"] = cells[4]["b"] = None
    part = reader(make(cells)).slice([5, 4, 1, 0], 0)
    a, b = part.batches["a"], part.batches["b"]
    assert a is not None
    assert b is not None
    assert (a.row.tolist(), b.row.tolist()) == ([5, 0], [5, 1, 0])
    assert torch.allclose(a.get("x"), torch.tensor([cells[5]["a"], cells[0]["a"]]))
    assert part.row.tolist() == [5, 4, 1, 0]
    assert part.skipped == ()


def test_a_modality_that_no_row_of_a_slice_has_is_none() -> None:
    cells = [{"a": [0.0] * 6, "b": None if i < 3 else [1.0] * 6} for i in range(6)]
    part = reader(cells).slice([0, 1, 2], 0)
    assert part.batches["b"] is None
    assert part.batches["a"] is not None


def test_a_cell_that_cannot_be_read_is_named_and_its_row_kept_for_others() -> None:
    cells = rows(4)
    cells[2]["a"] = [1.0, 2.0]
    made = reader(cells)
    for _ in range(2):
        part = made.slice([0, 2, 3], 0)
        a, b = part.batches["a"], part.batches["b"]
        assert a is not None
        assert b is not None
        assert (a.row.tolist(), b.row.tolist()) == ([0, 3], [0, 2, 3])
        assert [str(s) for s in part.skipped] == ["row 2, column 'a': expected 6 numbers, got [1.0, 2.0]"]


def test_an_adapters_own_failure_says_at_which_row() -> None:
    @dataclass(frozen=True)
    class Broken(Vectors):
        def load(self, raw: Any, rng: random.Random | None) -> Tensor:
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError) as caught:
        reader(None, [Pair("a", "a")], a=Broken()).slice([7], 0)
    assert caught.value.__notes__ == ["while loading row 7, column 'a' of the data"]


def test_a_missing_column_is_named_with_who_wants_it() -> None:
    with pytest.raises(InputError, match=r"no column 'sound', which 'c' reads; it has \['a', 'b', 'label', 'text'\]"):
        reader(None, [Pair("c", "c")], c=Vectors(column="sound"))
    with pytest.raises(InputError, match=r"no column 'labl', the ids of pair 'a-b'.*Did you mean 'label'"):
        reader(None, [Pair("a", "b", ids="labl")])


def test_columns_are_mapped() -> None:
    cells = [{"left": row["a"], "b": row["b"], "class": i} for i, row in enumerate(rows(4))]
    mapped = open_rows(cells, columns={"a": "left", "label": "class"})
    part = Reader(mapped, AB, [Pair("a", "b", ids="label")]).slice([2], 0)
    batch = part.batches["a"]
    assert batch is not None
    assert torch.allclose(batch.get("x"), torch.tensor([cells[2]["left"]]))


@dataclass(frozen=True)
class Files(Vectors):
    """Reads a file of numbers."""

    @property
    def files(self) -> bool:
        return True

    def load(self, raw: Any, rng: random.Random | None) -> Tensor:
        path = raw["path"] if isinstance(raw, dict) else raw
        return super().load(json.loads(Path(path).read_text()), rng)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "dicts"])
def test_files_beside_the_table_are_found_from_anywhere(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "set" / "files").mkdir(parents=True)
    (tmp_path / "set" / "files" / "0.json").write_text("[1, 2, 3, 4, 5, 6]")
    name, path = "files/0.json", tmp_path / "set" / ("rows.csv" if kind == "csv" else "rows.jsonl")
    cell = {"path": name, "bytes": None} if kind == "dicts" else name
    path.write_text(f"a\n{name}\n" if kind == "csv" else json.dumps({"a": cell}) + "\n")
    monkeypatch.chdir(tmp_path)
    part = reader(path, [Pair("a", "a")], a=Files()).slice([0], 0)
    batch = part.batches["a"]
    assert batch is not None
    assert batch.get("x").tolist() == [[1, 2, 3, 4, 5, 6]]


# What is decoded, and how often


def test_nodes_of_one_source_are_decoded_once() -> None:
    eye, twin, other = Counting(width=4), Counting(column="a", width=9), Counting(column="a", size=5)
    modalities = {"a": eye, "twin": twin, "other": other, "b": Vectors()}
    assert sources_of(modalities) == {"a": "a", "twin": "a", "other": "other", "b": "b"}
    part = reader(None, [Pair("a", "twin"), Pair("a", "other"), Pair("a", "b")], **modalities).slice(range(8), 0)
    assert (len(eye.seen), len(twin.seen), len(other.seen)) == (8, 0, 8)
    assert set(part.batches) == {"a", "other", "b"}
    assert len(part.skipped) == 8  # of six numbers where `other` wants five


def test_what_never_changes_is_decoded_once_and_what_is_drawn_every_time() -> None:
    cells = rows(4)
    cells[1]["a"] = [cells[1]["a"], cells[2]["a"]]
    cells[2]["a"] = None
    cells[3]["a"] = [1.0]
    eye = Counting()
    made = reader(cells, [Pair("a", "a")], a=eye)
    made.keep(1e9)
    first = [plain(made.slice(range(4), epoch)) for epoch in range(3)]
    assert len(eye.seen) == 3 + 2  # rows 0, 1 and 3, then row 1 in each epoch
    bare = reader(cells, [Pair("a", "a")], a=Vectors())
    assert [plain(bare.slice(range(4), epoch)) for epoch in range(3)] == first
    assert len(bare.cache) == 0


def test_which_of_several_is_picked_depends_on_seed_epoch_and_row_alone() -> None:
    cells = [{"a": [[float(k)] * 6 for k in range(9)]} for _ in range(12)]

    def picked(epoch: int, numbers: Sequence[int], seed: int = 0) -> dict[int, float]:
        batch = reader(cells, [Pair("a", "a")], seed, a=Vectors()).slice(numbers, epoch).batches["a"]
        assert batch is not None
        return dict(zip(batch.row.tolist(), batch.get("x")[:, 0].tolist(), strict=True))

    first = picked(0, range(12))
    assert picked(0, range(11, -1, -1)) == first
    assert picked(0, [5]) == {5: first[5]}
    assert picked(1, range(12)) != first
    assert picked(0, range(12), seed=1) != first
    assert len(set(first.values())) > 2


def test_the_cache_stays_within_its_room() -> None:
    made = reader()
    made.keep(5 * (6 * 4 + 200))
    made.slice(range(20), 0)
    assert len(made.cache) == 5
    assert made.cache.left >= 0


def test_a_table_is_read_once_a_slice_and_only_where_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = reader(datasets.Dataset.from_list(rows(20)))
    asked: list[tuple[list[int], list[str]]] = []
    fetch = made.rows.fetch

    def noted(numbers: Sequence[int], columns: Sequence[str]) -> Any:
        asked.append((list(numbers), list(columns)))
        return fetch(numbers, columns)

    monkeypatch.setattr(made.rows, "fetch", noted)
    made.keep(1e9)
    made.slice([3, 1, 2], 0)
    made.slice([2, 7, 3], 0)
    made.slice([1, 2, 3], 0)
    assert asked == [([3, 1, 2], ["a", "b"]), ([7], ["a", "b"])]


# Ids


def test_ids_of_rows_in_any_order() -> None:
    pair = Pair("a", "b", ids="label")
    made = reader(None, [pair])
    part = made.slice([9, 2, 14, 7, 0], 0)
    wanted = torch.tensor([7, 9, 0])
    assert part.ids_of(pair, wanted).tolist() == made.ids["a-b"][wanted.numpy()].tolist()
    assert part.ids_of(pair, torch.tensor([], dtype=torch.int64)).tolist() == []


def test_pairs_of_equal_demands_share_their_ids() -> None:
    terms = [
        Pair("a", "b"),
        Pair("b", "a", name="back"),
        Pair("a", "a"),
        Pair("b", "b"),
        Pair("a", "b", name="lab", ids="label"),
    ]
    made = reader(None, terms)
    assert made.ids["a-b"] is made.ids["back"]
    assert made.ids["a-a"] is made.ids["b-b"]
    assert len(set(made.ids["lab"].tolist())) == 5
    assert made.ids["a-a"].tolist() == [row_id(n) for n in range(20)]


def test_repeated_texts_of_a_cross_modal_pair_are_one_and_said_so() -> None:
    cells = [{"a": [0.0] * 6, "text": text} for text in ("x", "y", "x", "z")]
    for equal, said in (("positive", "positives"), ("ignore", "left out")):
        pair = Pair("a", "t", equal_ids=equal)  # type: ignore[arg-type]
        made = reader(cells, [pair, Pair("a", "a")], a=Vectors(), t=Vectors(column="text"))
        ids = made.ids["a-t"].tolist()
        assert ids[0] == ids[2]
        assert len(set(ids)) == 3
        assert made.notes == [f"pair 'a-t': 2 of 4 rows repeat a text or a file; repeats are {said}, never negatives"]
        assert len(set(made.ids["a-a"].tolist())) == 4


def stored(folder: Path, **contents: bytes) -> Path:
    """Files by name."""
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def test_copies_of_a_file_under_other_names_are_one(tmp_path: Path) -> None:
    stored(tmp_path / "set", one=b"abcdef", copy=b"abcdef", other=b"abcdeg")
    names = ["one", "other", "copy", "gone", "gone", "one"]
    cells = [{"a": [float(i)] * 6, "file": name} for i, name in enumerate(names)]
    pair = Pair("a", "f")
    made = Reader(Rows(cells, base=tmp_path / "set"), {"a": Vectors(), "f": Stored(column="file")}, [pair])
    ids = made.ids["a-f"].tolist()
    assert ids[0] == ids[2] == ids[5]
    assert ids[3] == ids[4]  # one path, whatever is there
    assert len(set(ids)) == 3
    assert "pair 'a-f': 5 of 6 rows repeat a text or a file" in made.notes[0]
    part = made.slice([0, 1, 2], 0)
    assert part.ids_of(pair, part.row).tolist() == ids[:3]


def test_files_are_found_equal_over_several_sets_and_tables(tmp_path: Path) -> None:
    first = stored(tmp_path / "first", x=b"abcdef", y=b"aaaaaa")
    second = stored(tmp_path / "second", x=b"bbbbbb", z=b"abcdef")
    sets = [
        Rows([{"a": [0.0] * 6, "f": name} for name in ("x", "y")], base=first),
        Rows([{"a": [0.0] * 6, "f": name} for name in ("x", "z")], base=second),
        Rows([{"a": [0.0] * 6, "f": cell} for cell in (b"aaaaaa", {"bytes": b"cccccc", "path": "x"})]),
    ]
    ids = Reader(Mixture(sets), {"a": Vectors(), "f": Stored()}, [Pair("a", "f")]).ids["a-f"].tolist()
    assert ids[0] == ids[3]
    assert ids[1] == ids[4]
    assert len(set(ids)) == 4  # "x" is another file in each set


def test_explicit_negatives_that_are_copies_of_a_file_are_none(tmp_path: Path) -> None:
    stored(tmp_path / "set", one=b"abcdef", two=b"ghijkl", copy=b"abcdef", other=b"mnopqr")
    cells = [{"q": "one", "f": "one", "n": "other"}, {"q": "two", "f": "two", "n": "copy"}]
    nodes = {"q": Vectors(), "f": Stored(), "n": Stored()}
    made = Reader(Rows(cells, base=tmp_path / "set"), nodes, [Pair("q", "f", negatives="n")])
    rows, negatives = made.ids["q-f"].tolist(), made.ids["q-f/negatives"].tolist()
    assert negatives[1] == rows[0]
    assert len({*rows, *negatives}) == 3


def test_files_are_looked_at_only_where_a_pair_asks_what_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: equal_files.Files, paths: Any, embedded: Any) -> dict[str, int]:
        raise AssertionError(list(paths))

    monkeypatch.setattr(equal_files.Files, "keys", none)
    cells = [{"a": [0.0] * 6, "f": "x", "t": "x", "label": i} for i in range(2)]
    nodes = {"a": Vectors(), "f": Stored(), "t": Vectors()}
    terms = [Pair("a", "t"), Pair("f", "f"), Pair("a", "f", ids="label"), Pair("t", "a", name="scored")]
    made = Reader(open_rows(cells), nodes, terms)
    assert len(set(made.ids["a-t"].tolist())) == 1
    with pytest.raises(AssertionError, match="x"):
        Reader(open_rows(cells), nodes, [*terms, Pair("t", "f")])


def test_a_streams_files_go_by_what_they_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(tmp_path / "set", one=b"abcdef", copy=b"abcdef", other=b"bbbbbb")
    cells = [{"a": [0.0] * 6, "f": cell} for cell in ("one", "other", {"bytes": None, "path": "copy"}, b"abcdef")]
    cells += [{"a": [0.0] * 6, "f": cell} for cell in ("gone", "gone", None)]

    def ids() -> list[int]:
        data = Rows(iter(cells), base=tmp_path / "set")
        assert data.streaming
        made = Reader(data, {"a": Vectors(), "f": Stored()}, [Pair("a", "f")])
        found: list[int] = made.slice(range(7), 0, cells).ids["a-f"].tolist()
        return found

    found = ids()
    assert found[0] == found[2] == found[3] == content_key(b"abcdef")
    assert found[4] == found[5] == content_key(str(tmp_path / "set" / "gone"))
    assert found[6] == row_id(6)
    assert len(set(found)) == 4
    monkeypatch.setattr("multicl.data.reader.READ_AGAIN", 5)  # longer ones go by their paths
    assert len(set(ids())) == 6


# The recipe's section


def test_data_opens_a_split_or_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set").mkdir()
    for split, count in (("train", 3), ("test", 2)):
        pq.write_table(pa.table({"n": list(range(count))}), tmp_path / "set" / f"{split}.parquet")
    pq.write_table(pa.table({"n": [7]}), tmp_path / "own.parquet")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test").mkdir()  # a folder that happens to have a split's name
    data = Data(path="set", columns={"number": "n"})
    assert data.open().column("number") == [0, 1, 2]
    assert data.open("test").column("number") == [0, 1]
    assert data.open("own.parquet").column("number") == [7]
    assert data.open("./set").column("number") == [0, 1, 2]
    assert Data(path="set", split="test").open().column("n") == [0, 1]
    assert Data(path="set", streaming=True).open().streaming
    with pytest.raises(InputError, match=r"give --data\.path"):
        Data().open()
    with pytest.raises(InputError, match=r"no such file or folder: gone\.csv"):
        data.open("gone.csv")


def test_explicit_negatives_are_about_something_else_unless_they_repeat_a_rows_text() -> None:
    cells = [
        {"q": "one", "t": "first", "n": "other"},
        {"q": "two", "t": "second", "n": "first"},  # the first row's text
        {"q": "three", "t": "third", "n": None},
    ]
    nodes = {node: Vectors(column=node) for node in "qtn"}
    pair = Pair("q", "t", negatives="n")
    labelled = Pair("q", "t", negatives="n", ids="q", name="labelled")
    within = Pair("q", "q", negatives="n")
    without = [Pair("q", "q", name="alone"), Pair("q", "t", ids="q", name="labels-alone")]
    made = Reader(open_rows(cells), nodes, [*without, pair, labelled, within])
    rows, negatives = made.ids["q-t"].tolist(), made.ids["q-t/negatives"].tolist()
    assert negatives[1] == rows[0]
    assert len({*rows, *negatives}) == 5
    assert len({*made.ids["labelled"].tolist(), *made.ids["labelled/negatives"].tolist()}) == 6
    assert len({*made.ids["q-q"].tolist(), *made.ids["q-q/negatives"].tolist()}) == 6
    assert len({*made.ids["q-q"].tolist()} & {*rows}) == 2  # rows that repeat nothing are themselves


@pytest.mark.parametrize("streaming", [False, True])
def test_a_column_of_several_ids_a_row_is_refused_by_name(streaming: bool) -> None:
    data = [{"x": [1.0], "topics": [i, i + 1]} for i in range(4)]
    rows = open_rows(datasets.Dataset.from_list(data).to_iterable_dataset() if streaming else data)
    with pytest.raises(
        InputError, match=r"ids='topics' of pair 'x-x': row 0 has several values, \[0, 1\], .* takes one per row"
    ):
        Reader(rows, {"x": Vectors()}, [Pair("x", "x", ids="topics")]).slice([0], 0, [data[0]])
