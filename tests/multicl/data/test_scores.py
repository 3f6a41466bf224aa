"""A pair's target, from its column to the loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from toys import Vectors, rows

from multicl import CoSENT, Head, InputError, Margin, Model, Optim, Pair, Train, Trainer, functional
from multicl.data.rows import Rows

NODES = {"a": Vectors(tower="one"), "b": Vectors(tower="one")}


class Stream:
    """Rows that come one after the other, the same every time."""

    def __init__(self, data: list[dict[str, Any]]) -> None:
        self.data = data

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.data)


def scored(values: list[Any]) -> list[dict[str, Any]]:
    return [{**row, "score": value} for row, value in zip(rows(len(values)), values, strict=True)]


def trainer(data: Any, pair: Pair, batch: int = 8, steps: int = 1) -> Trainer:
    train = Train(batch_size=batch, steps=steps, lr=1e-2, log_every=1)
    return Trainer(NODES, [pair], data, train=train, optim=Optim(weight_decay=0), head=Head(dim=4, layers=1))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("chunk", [None, 3])
def test_the_loss_of_a_step_is_that_of_its_rows_and_scores(stream: bool, chunk: int | None, tmp_path: Any) -> None:
    data = scored([0, 1.5, None, "3", 4, 0, 2, float("nan")])
    train = Train(batch_size=8, steps=1, lr=1e-12, log_every=1, chunk_size=chunk)
    made = Trainer(
        {n: Vectors(tower="one", noise=0) for n in "ab"}, [Pair("a", "b", CoSENT(), target="score")],
        Stream(data) if stream else data, train=train, head=Head(dim=4, layers=1), run=tmp_path / "run",
    )  # fmt: skip
    model = made.fit()
    a, b = (model.embed_node(n, [row[n] for row in data]) for n in "ab")
    wanted = functional.co_sent(a, b, [0, 1.5, float("nan"), 3, 4, 0, 2, float("nan")])
    line = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0]
    assert f'"loss": {wanted.item():.4f}'[:14] in line
    assert "accuracy" not in line  # a row's two may be far from each other by right
    assert "uniformity" in line


def test_rows_come_into_the_order_of_their_scores() -> None:
    data = rows(48)
    order = torch.randn(48, generator=torch.Generator().manual_seed(3))
    data = [{**row, "score": float(s)} for row, s in zip(data, order, strict=True)]
    made = trainer(data, Pair("a", "b", CoSENT(), target="score"), batch=48, steps=150)

    def agrees(model: Model) -> float:
        a, b = (model.embed_node(node, [row[node] for row in data]) for node in "ab")
        return torch.corrcoef(torch.stack([(a * b).sum(1), order]))[0, 1].item()

    before = agrees(made.model)
    assert agrees(made.fit()) > before + 0.3


@pytest.mark.parametrize(
    ("values", "pair", "message"),
    [
        ([1, 2, "much"], Pair("a", "b", CoSENT(), target="score"), "row 2, column 'score': 'much' is not a number"),
        ([1, 0, 0.5], Pair("a", "b", Margin(), target="score"), "row 2, column 'score': 0.5 is neither 0 nor 1"),
        ([2, 2, None], Pair("a", "b", CoSENT(), target="score"), "column 'score' holds only 2"),
        ([None, None], Pair("a", "b", CoSENT(), target="score"), "column 'score' is empty"),
        (
            [1, 2],
            Pair("a", "b", CoSENT(), target="scores"),
            "has no column 'scores', the target of pair 'a-b'.*'score'",
        ),
    ],
)
def test_columns_that_are_no_targets_are_refused(values: list[Any], pair: Pair, message: str) -> None:
    with pytest.raises(InputError, match=message):
        trainer(scored(values), pair, batch=2)


def test_a_streams_bad_cell_is_named_by_its_row() -> None:
    made = trainer(Stream(scored([1, 2, 3, "x"])), Pair("a", "b", CoSENT(), target="score"), batch=4)
    with pytest.raises(InputError, match="row 3, column 'score': 'x' is not a number"):
        made.fit()


def test_rows_of_equal_text_are_no_ids_where_scores_say_it(capsys: pytest.CaptureFixture[str]) -> None:
    data = Rows([{**row, "a": [0.0] * 6} for row in scored([1, 2, 3, 4])])
    trainer(data, Pair("a", "b", CoSENT(), target="score"), batch=4).fit()
    assert "repeat" not in capsys.readouterr().out


def test_scores_of_several_sets_are_their_rows(tmp_path: Any) -> None:
    sets = [scored([0, 1, 2, 3]), scored([4, 5, 6, 7])]
    made = Trainer(
        {n: Vectors(noise=0) for n in "ab"}, [Pair("a", "b", CoSENT(), target="score")], sets,
        train=Train(batch_size=8, steps=1, lr=1e-12, log_every=1), head=Head(dim=4, layers=1), run=tmp_path / "run",
    )  # fmt: skip
    model = made.fit()
    every = [row for part in sets for row in part]
    a, b = (model.embed_node(n, [row[n] for row in every]) for n in "ab")
    wanted = functional.co_sent(a, b, range(8))
    line = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0]
    assert f'"loss": {wanted.item():.4f}'[:14] in line
