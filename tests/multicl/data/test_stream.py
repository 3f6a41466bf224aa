from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import psutil
import pytest
import torch
from slices import numbers, plain
from toys import Vectors, rows

from multicl import Data, InputError, Optim, Pair, Target, Train, Trainer
from multicl.data.loading import slices
from multicl.data.reader import Reader
from multicl.data.rows import Rows, open_rows
from multicl.data.slice import Slice
from multicl.data.stream import StreamSteps

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on one core, of two
AB = {"a": Vectors(), "b": Vectors()}
TERMS = [Pair("a", "b", ids="label"), Pair("a", "a")]


def stream(count: int = 20) -> Rows:
    return open_rows(datasets.Dataset.from_list(rows(count)).to_iterable_dataset())


def flow(start: int = 0, rank: int = 0, world: int = 1, shuffle: int = 6, seed: int = 0) -> Iterator[Slice]:
    steps = StreamSteps(Reader(stream(), AB, TERMS, seed), 8, rank, world, start, shuffle)
    return map(steps.__getitem__, steps.reads())  # type: ignore[arg-type]


def loaded(
    made: Reader, start: int = 0, steps: int = 6, rank: int = 0, world: int = 1, **options: Any
) -> Iterator[Slice]:
    return slices(made, Data(**{"workers": 0, **options}), 8, rank, world, start, steps, pin=False)


@pytest.mark.parametrize("shuffle", [1, 6, 10_000])
def test_a_stream_gives_each_row_at_most_once_an_epoch(shuffle: int) -> None:
    parts = numbers(list(islice(flow(shuffle=shuffle), 4)))
    for epoch in (parts[:2], parts[2:]):
        seen = [n for part in epoch for n in part]
        assert len(set(seen)) == len(seen) == 16
        assert set(seen) <= set(range(20))
    assert parts[:2] != parts[2:] or shuffle == 1
    assert numbers(list(islice(flow(shuffle=shuffle, seed=1), 4))) != parts or shuffle == 1


@pytest.mark.parametrize("start", [0, 1, 2, 3, 5])
def test_a_stream_resumed_anywhere_reads_on_as_if_never_broken(start: int) -> None:
    whole = [plain(part) for part in islice(flow(), 6)]
    assert [plain(part) for part in islice(flow(start), 6 - start)] == whole[start:]
    assert [part["epoch"] for part in whole] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_out_each_batch_of_a_stream(world: int) -> None:
    whole = numbers(list(islice(flow(), 4)))
    ranks = [numbers(list(islice(flow(rank=rank, world=world), 4))) for rank in range(world)]
    assert [[n for share in shares for n in share] for shares in zip(*ranks, strict=True)] == whole


def test_a_streams_rows_are_the_tables_rows() -> None:
    terms = [Pair("a", "b", ids="label")]
    part = next(loaded(Reader(stream(), AB, terms), steps=1))
    table = Reader(open_rows(rows(20)), AB, terms).slice(part.row.tolist(), 0)
    assert plain(table) == plain(part)
    assert len(list(loaded(Reader(stream(), AB, terms), start=1, steps=3))) == 2


def test_texts_that_repeat_in_a_streams_batch_are_one() -> None:
    cells = [{"a": [0.0] * 6, "b": [1.0] * 6, "text": "same" if i < 2 else f"text {i}"} for i in range(4)]
    made = Reader(
        open_rows(datasets.Dataset.from_list(cells).to_iterable_dataset()),
        {"a": Vectors(), "b": Vectors(column="text")},
        [Pair("a", "b"), Pair("a", "a")],
    )
    part = made.slice(range(4), 0, cells)
    first, second, third, fourth = part.ids["a-b"].tolist()
    assert first == second
    assert len({first, third, fourth}) == 3
    assert len(set(part.ids["a-a"].tolist())) == 4


# Loader processes


class Own:
    """A stream of one's own, which does not pickle; its rows have holes, choices, and cells that cannot be read.

    Args:
        bad: an error that comes after twelve rows, or a row; in all epochs but the first `good`.
    """

    def __init__(self, bad: Any = None, good: int = 0) -> None:
        self.open, self.bad, self.good = lambda: iter(rows(20)), bad, good

    def __iter__(self) -> Iterator[Any]:
        self.good -= 1
        for i, row in enumerate(self.open()):
            if i == 12 and self.bad is not None and self.good < 0:
                if isinstance(self.bad, Exception):
                    raise self.bad
                yield self.bad
            changes: dict[int, dict[str, Any]] = {3: {"a": [row["a"], row["b"]]}, 5: {"b": [1.0]}, 7: {"a": None}}
            yield row | changes.get(i, {})


def made(bad: Any = None, terms: Any = TERMS, good: int = 1) -> Reader:
    """A reader of it, who looks at the first rows for their columns, too."""
    return Reader(open_rows(Own(bad, good + 1)), AB, terms)


@pytest.mark.parametrize("rank", [None, 1])
def test_loader_processes_change_nothing(rank: int | None) -> None:
    where = {} if rank is None else {"rank": rank, "world": 2}
    alone = [plain(part) for part in loaded(made(), **where)]
    assert [str(s)[:20] for part in alone for s in part["skipped"]].count("row 5, column 'b': e") >= (rank is None)
    for workers, start in ((1, 0), (2, 0), (2, 3)):
        assert [plain(part) for part in loaded(made(), start, workers=workers, **where)] == alone[start:]


def steps_until(parts: Iterator[Slice]) -> tuple[int, str]:
    """Slices that came before an error, and the error."""
    for step in range(99):
        try:
            next(parts)
        except InputError as error:
            return step, str(error)
    raise AssertionError


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (OSError("the line is dead"), "the data: the stream broke after 12 rows: the line is dead"),
        (InputError("own words"), "own words"),
        ("no row", "a row must be a dict of columns or a tuple, got str"),
        (rows(1)[0] | {"label": "other"}, "'other'"),
    ],
)
def test_errors_come_in_their_turn(bad: Any, message: str) -> None:
    terms = [*TERMS, Target("a", "label", classes=("0", "1", "2", "3", "4"))]
    alone = steps_until(loaded(made(bad, terms), steps=99))
    assert alone[0] >= 2  # steps of the first epoch
    assert message in alone[1]
    assert steps_until(loaded(made(bad, terms), steps=99, workers=2)) == alone


def test_a_row_that_cannot_be_sent_is_told() -> None:
    bad = rows(1)[0] | {"label": lambda: 1}
    step, message = steps_until(loaded(made(bad, [Pair("a", "b", ids="label")]), steps=99, workers=1))
    assert step >= 2
    assert "cannot be sent to loader processes" in message
    assert "--data.workers 0" in message
    assert len(list(loaded(made(bad, [Pair("a", "b")]), steps=8, workers=1))) == 8  # nobody asked for that column


def test_only_columns_that_slices_are_made_from_are_kept() -> None:
    reader = Reader(stream(), {"a": Vectors()}, [Pair("a", "a", ids="label")])
    read: Any = next(StreamSteps(reader, 8, 0, 1, 0).reads())
    assert [list(row) for row in read[2]] == [["a", "label"]] * 8


def test_processes_are_used_where_decoding_a_stream_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    loader = torch.utils.data.DataLoader

    def noted(*args: Any, num_workers: int, **options: Any) -> Any:
        asked.append(num_workers)
        return loader(*args, num_workers=num_workers, **options)

    monkeypatch.setattr("torch.utils.data.DataLoader", noted)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(2)), raising=False)
    alone = numbers(loaded(made()))
    for slow in (0.0, 1e9):
        monkeypatch.setattr("multicl.data.reader.SLOW", slow)
        assert numbers(loaded(made(), workers=None)) == alone  # none that was looked at is lost
    assert steps_until(loaded(made(InputError("at once"), good=0), workers=None)) == (0, "at once")
    assert asked == [0, 1, 0, 0]


def test_loader_processes_end_with_the_slices() -> None:
    def helpers() -> set[int]:
        return {child.pid for child in psutil.Process().children(recursive=True)}

    list(loaded(made(), steps=1, workers=1))  # starts the server that forks them, which stays
    gc.collect()
    before = helpers()
    parts = loaded(made(), steps=99, workers=2)
    next(parts)
    assert len(helpers() - before) == 2
    del parts  # broken off
    gc.collect()
    deadline = time.monotonic() + 30
    while helpers() - before:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_run_on_a_stream_resumed_with_loader_processes_is_the_unbroken_one(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(40)))

    def trained(run: str, steps: int, workers: int, resume: bool = False) -> list[float]:
        Trainer(
            {"a": Vectors(dropout=0.1), "b": Vectors()},
            [Pair("a", "b")],
            Data(path=str(tmp_path / "rows.jsonl"), streaming=True, workers=workers),
            train=Train(batch_size=16, steps=steps, lr=1e-2, log_every=1),
            optim=Optim(schedule="constant", warmup=0),
            run=tmp_path / run,
            resume=resume,
        ).fit()
        return [json.loads(line)["loss"] for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]

    whole = trained("whole", 7, workers=0)
    trained("broken", 3, workers=1)
    assert trained("broken", 7, workers=1, resume=True) == whole
