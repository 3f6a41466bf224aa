from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize
from toys import Vectors, rows

from multicl.data.rows import open_rows
from multicl.evaluation import held_out
from multicl.evaluation.linear_probe import linear_probe
from multicl.types import InputError


def raw(node: str, cells: Sequence[Any], skipped: dict[int, str]) -> torch.Tensor:
    for i, cell in enumerate(cells):
        if cell is None:
            skipped[i] = "absent"
    return torch.tensor([cell or [0.0] * 6 for cell in cells])


def labels(rows: list[dict[str, Any]]) -> list[int]:
    return [row["label"] for row in rows]


def test_each_group_is_asked_among_all_others() -> None:
    data = rows(60)
    for i, row in enumerate(data):
        row["speaker"] = "abc"[i % 3]
    data[5]["a"] = None
    found = held_out.leave_one_out(raw, {"a": Vectors()}, "a", open_rows(data), "label", "speaker", k=1)
    known = [row for row in data if row["a"] is not None]
    z = normalize(torch.tensor([row["a"] for row in known]), dim=1)
    wanted = Counter[str]()
    for i, row in enumerate(known):
        others = [j for j, other in enumerate(known) if other["speaker"] != row["speaker"]]
        nearest = max(others, key=lambda j: float(z[i] @ z[j]))
        wanted[row["speaker"]] += known[nearest]["label"] == row["label"]
    for name, right in wanted.items():
        assert found[f"knn_1_{name}"] == pytest.approx(right / sum(row["speaker"] == name for row in known))
    for group in "abc":
        others, asked = ([row for row in known if (row["speaker"] == group) == inside] for inside in (False, True))
        sides = [part for side in (others, asked) for part in (torch.tensor([r["a"] for r in side]), labels(side))]
        probe = linear_probe(*sides, strengths=(1e-1, 1e-2), max_iter=50)
        assert found[f"linear_{group}"] == probe.accuracy
    for measure in ("knn_1", "linear"):
        each = [value for name, value in found.items() if name.startswith(measure) and "worst" not in name]
        assert len(each) == 3
        assert each == sorted(each)
        assert found[f"{measure}_worst"] == each[0]
    alone = held_out.leave_one_out(raw, {"a": Vectors()}, "a", open_rows(data), "label", "speaker", k=1, only="b")
    assert alone == {f"{m}_{of}": found[f"{m}_b"] for m in ("knn_1", "linear") for of in ("worst", "b")}


def test_one_group_alone_has_no_others() -> None:
    data = [{**row, "speaker": "a"} for row in rows(8)]
    with pytest.raises(InputError):
        held_out.leave_one_out(raw, {"a": Vectors()}, "a", open_rows(data), "label", "speaker")


def test_probes_are_of_each_node_and_of_all_side_by_side_by_one_embedding() -> None:
    data = open_rows(rows(80))
    nodes = {"a": Vectors(), "b": Vectors()}
    asked: list[str] = []

    def counted(node: str, cells: Sequence[Any], skipped: dict[int, str]) -> torch.Tensor:
        asked.append(node)
        return raw(node, cells, skipped)

    found = held_out.probes(counted, nodes, ["a", "b"], data, data, "label", k=3)
    assert sorted(asked) == ["a", "a", "b", "b"]
    for sides in (["a"], ["b"], ["a", "b"]):
        name = "+".join(sides)
        assert found[f"knn_3_{name}"] == held_out.knn(raw, nodes, sides, data, data, "label", k=3)["knn_3"]
        wanted = held_out.linear(raw, nodes, sides, data, data, "label")["linear"]
        assert found[f"linear_{name}"] == pytest.approx(wanted, abs=0.05)
    alone = held_out.probes(raw, nodes, ["a"], data, data, "label", k=3)
    assert alone == {"knn_3": found["knn_3_a"], "linear": found["linear_a"]}


def test_a_group_that_there_is_not_is_refused() -> None:
    data = [{**row, "speaker": "ab"[i % 2]} for i, row in enumerate(rows(8))]
    with pytest.raises(InputError, match="holds no 'c'"):
        held_out.leave_one_out(raw, {"a": Vectors()}, "a", open_rows(data), "label", "speaker", only="c")


@pytest.mark.parametrize("none", [None, -1, -1.0, "", " ", float("nan"), "-1"])
@pytest.mark.parametrize("kind", [int, float, str])
def test_what_training_calls_unlabelled_is_in_no_figure(none: Any, kind: Any) -> None:
    known, asked = rows(40), rows(20, seed=1)
    sides = [open_rows(side) for side in (known, asked)]
    wanted = held_out.probes(raw, {"a": Vectors()}, ["a"], *sides, "label", k=3)
    with_more = [
        [{**row, "label": kind(row["label"])} for row in side] + [{**row, "label": none} for row in rows(9, seed=2)]
        for side in (known, asked)
    ]
    assert held_out.probes(raw, {"a": Vectors()}, ["a"], *map(open_rows, with_more), "label", k=3) == wanted


def test_a_list_is_no_label() -> None:
    data = open_rows([{**row, "label": [1, 2]} for row in rows(8)])
    with pytest.raises(InputError, match="flat"):
        held_out.knn(raw, {"a": Vectors()}, ["a"], data, data, "label")


@pytest.mark.parametrize(
    ("labels", "count", "wanted"),
    [
        ("abab", 2, [0, 1]),  # the first have all classes
        ("aabbcc", 3, [0, 2, 4]),  # in order of classes: from all over
        ("aaabbb", 5, [0, 1, 2, 3, 4]),
        ("aaaabbbb", 3, [0, 2, 5]),
        ("ab", 9, [0, 1]),
    ],
)
def test_a_bank_has_all_classes_of_data_in_their_order(labels: str, count: int, wanted: list[int]) -> None:
    data = open_rows([{"label": label, "at": at} for at, label in enumerate(labels)])
    assert held_out.bank(data, count, "label").column("at") == wanted


def test_a_bank_without_labels_says_what_else_there_is() -> None:
    with pytest.raises(InputError, match=r"no column 'label' of labels; it has \['at'\].*--label None"):
        held_out.bank(open_rows([{"at": 1}]), 1, "label")
