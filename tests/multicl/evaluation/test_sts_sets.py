"""Scored pairs as rows: one set, and several averaged both ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from multicl.data.rows import open_rows
from multicl.evaluation import held_out, intervals, sts_mean_spearman, sts_spearman
from multicl.types import InputError


def embed(node: str, cells: Sequence[Any], skipped: dict[int, str]) -> Tensor:
    """A number as an angle; None cannot be read."""
    assert node == "text"
    skipped |= {i: "none" for i, cell in enumerate(cells) if cell is None}
    angles = torch.tensor([float(cell or 0) for cell in cells])
    return torch.stack([angles.cos(), angles.sin()], 1)


def pairs(count: int, seed: int, **more: Sequence[Any]) -> list[dict[str, Any]]:
    draw = torch.Generator().manual_seed(seed)
    x, y, score = torch.rand(3, count, generator=draw).tolist()
    return [
        {"sentence1": x[i], "sentence2": y[i], "score": score[i], **{name: cells[i] for name, cells in more.items()}}
        for i in range(count)
    ]


def vectors(table: list[dict[str, Any]]) -> tuple[Tensor, Tensor, Tensor]:
    a, b = (embed("text", [row[name] for row in table], {}) for name in ("sentence1", "sentence2"))
    return a, b, torch.tensor([row["score"] for row in table])


def test_sets_are_averaged_over_all_pairs_and_over_parts() -> None:
    plain, parted = pairs(20, 0), pairs(30, 1, part=["m", "n", "n"] * 10)
    found = held_out.sts_sets(embed, "text", {"one": open_rows(plain), "two": open_rows(parted)})
    one, two = (sts_spearman(*vectors(table)) for table in (plain, parted))
    mean = sts_mean_spearman(*vectors(parted), ["m", "n", "n"] * 10)
    assert mean != pytest.approx(two, abs=1e-3)
    assert found == pytest.approx(
        {"sts_one": one, "sts_two": two, "sts_average": (one + two) / 2, "sts_average_of_parts": (one + mean) / 2}
    )


def test_an_average_is_as_sure_as_its_sets_together() -> None:
    """Of four sets alike the deviation of the mean is half of that of each."""
    alike = {str(i): open_rows([{**row, "score": row["sentence1"] + row["score"]} for row in pairs(80, i)])
             for i in range(4)}  # fmt: skip
    found = intervals(held_out.sts_sets(embed, "text", alike))
    assert found.keys() == {*(f"sts_{name}" for name in alike), "sts_average", "sts_average_of_parts"}
    wide = {name: high - low for name, (low, high) in found.items()}
    each = [wide[f"sts_{name}"] for name in alike]
    assert wide["sts_average"] == wide["sts_average_of_parts"]
    assert wide["sts_average"] == pytest.approx(sum(each) / 4 / 2, rel=0.2)
    low, high = sts_mean_spearman(*vectors(pairs(30, 1)), ["m", "n", "n"] * 10).interval()
    assert low < sts_mean_spearman(*vectors(pairs(30, 1)), ["m", "n", "n"] * 10) < high


def test_pairs_that_cannot_be_read_are_left_out() -> None:
    table = pairs(20, 0, part=["m", "n"] * 10)
    holes = [*table[:5], {**table[0], "sentence2": None}, *table[5:]]
    for name, rows in (("whole", table), ("holes", holes)):
        found = held_out.sts_sets(embed, "text", {name: open_rows(rows)})
        assert found["sts_average"] == pytest.approx(sts_spearman(*vectors(table)))
        assert found["sts_average_of_parts"] == pytest.approx(sts_mean_spearman(*vectors(table), ["m", "n"] * 10))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": None}, "row 0, column 'score': None is not a number"),
        ({"score": "high"}, "row 0, column 'score': 'high' is not a number"),
        ({"score": 1.0}, "scores: all 3 values are 1.0"),
        ({"sentence1": None}, "no row has two sentences"),
    ],
)
def test_what_cannot_be_scored_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        held_out.sts(embed, "text", open_rows([{**row, **change} for row in pairs(3, 0)]))


def test_the_seven_are_the_papers() -> None:
    assert len(set(held_out.SEVEN)) == 7
