"""Every figure beside a plain reference: loops over rows, and the definitions written out."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from ranked import trained
from ranks import run_ranks
from steps import cells, looks, step, three
from torch import Tensor
from toys import rows

from multicl import Bilinear, InfoNCE, Matryoshka, Pair
from multicl.pairs import Call, View
from multicl.training.monitors import (
    DEAD,
    SAMPLE,
    SPECTRUM,
    Compared,
    Figures,
    accuracies,
    covariance_rank,
    figures_of,
    geometry,
    sample,
)
from multicl.types import Embedded


def randn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def side(z: Tensor, row: Any = None, id: Any = None) -> Embedded:
    row = torch.arange(len(z)) if row is None else torch.tensor(row)
    return Embedded(z, row, row + 1000 if id is None else torch.tensor(id))


def by_hand(a: Embedded, b: Embedded, equal_ids: str, similarity: str, within: bool) -> float | None:
    """Row by row: the key that is most alike, and whether it is a positive."""
    hits = []
    for i in range(len(a)):
        keys, good = [], set()
        for j in range(len(b)):
            row, same = bool(a.row[i] == b.row[j]), bool(a.id[i] == b.id[j])
            if (within and i == j) or (equal_ids == "ignore" and same and not row):
                continue
            keys.append(j)
            if row or same:
                good.add(j)
        if not good:
            continue
        x, y = a.z[i], b.z[keys]
        alike = y @ x if similarity == "dot" else torch.cosine_similarity(y, x[None])
        hits.append(keys[int(alike.argmax())] in good)
    return sum(hits) / len(hits) if hits else None


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("equal_ids", ["positive", "ignore"])
def test_accuracy_of_two_nodes(equal_ids: Literal["positive", "ignore"], similarity: str) -> None:
    """Repeated ids, and rows that only one side has."""
    z = randn(40, 6)
    a = side(z + 0.7 * randn(40, 6, seed=1), id=[i // 3 for i in range(40)])
    b = side((z + 0.7 * randn(40, 6, seed=2))[5:], row=range(5, 40), id=[i // 3 for i in range(5, 40)])
    ab, ba = accuracies(a, b, equal_ids, similarity)
    assert ab == by_hand(a, b, equal_ids, similarity, False)
    assert ba == by_hand(b, a, equal_ids, similarity, False)
    assert ab is not None
    assert ab != ba
    assert 0.1 < ab < 0.9


@pytest.mark.parametrize("equal_ids", ["positive", "ignore"])
def test_accuracy_within_one_node(equal_ids: Literal["positive", "ignore"]) -> None:
    """Both draws are keys, a view itself is none."""
    z = randn(20, 6)
    both = side(
        torch.cat([z + 0.5 * randn(20, 6, seed=1), z + 0.5 * randn(20, 6, seed=2)]),
        row=[*range(20), *range(20)], id=[i // 2 for i in range(20)] * 2,
    )  # fmt: skip
    found = accuracies(both, both, equal_ids, within=True)
    assert found[0] == found[1] == by_hand(both, both, equal_ids, "cosine", True)
    assert found[0] is not None
    assert 0.1 < found[0] < 0.9


def test_rows_without_a_positive_do_not_count() -> None:
    z = torch.eye(4)
    assert accuracies(side(z), side(z[:2])) == (1.0, 1.0)
    assert accuracies(side(z), side(z, row=range(10, 14))) == (None, None)


def test_chance_is_one_over_the_keys() -> None:
    found, _ = accuracies(side(randn(2000, 16, seed=1)), side(randn(20, 16, seed=2), row=range(20)))
    assert found is not None  # 20 rows of a have a positive
    many = [accuracies(side(randn(100, 16, seed=s)), side(randn(100, 16, seed=s + 500)))[0] for s in range(50)]
    assert sum(filter(None, many)) / 50 == pytest.approx(0.01, abs=0.005)


def test_geometry_of_an_even_spread() -> None:
    z = randn(512, 32)
    found = geometry(z)
    x = z / z.norm(dim=1, keepdim=True)
    assert found.uniformity == pytest.approx(float(torch.pdist(x).pow(2).mul(-2).exp().mean().log()), rel=1e-5)
    values = torch.linalg.eigvalsh(x.T.double().cov())
    shares = values / values.sum()
    assert found.effective_rank == pytest.approx(math.exp(float(-(shares * shares.log()).sum())), rel=1e-6)
    assert found.effective_rank > 30
    assert found.dead == 0
    assert found.most == 32


@pytest.mark.parametrize(("n", "d"), [(50, 8), (8, 50), (30, 30), (300, 300)])
def test_the_effective_rank_is_the_covariances(n: int, d: int) -> None:
    x = randn(n, d) @ randn(d, d, seed=1) + 5
    values = torch.linalg.svdvals((x.double() - x.double().mean(0)).T.cov(correction=0))
    shares = (values / values.sum()).clamp(min=1e-300)
    assert covariance_rank(x) == pytest.approx(math.exp(float(-(shares * shares.log()).sum())), rel=1e-6)


def test_known_ranks() -> None:
    assert covariance_rank(torch.ones(9, 4)) == 0
    assert covariance_rank(torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])) == pytest.approx(1)
    assert covariance_rank(torch.cat([torch.eye(3), -torch.eye(3)]) + 7) == pytest.approx(3)
    wide = torch.zeros(SPECTRUM + 100, SPECTRUM + 44)
    wide[:, :5] = randn(len(wide), 5)
    assert geometry(wide).effective_rank == pytest.approx(5, abs=0.1)
    assert geometry(wide).most == SPECTRUM - 1


def test_collapsed_embeddings_show() -> None:
    point = geometry(torch.ones(64, 16) + 1e-4 * randn(64, 16))
    assert point.uniformity == pytest.approx(0, abs=1e-4)
    assert point.dead == 1
    exact = geometry(torch.ones(64, 16))
    assert (exact.effective_rank, exact.dead) == (0, 1)
    assert exact.uniformity == pytest.approx(0, abs=1e-6)
    line = geometry(randn(64, 1) * randn(1, 16, seed=1))
    assert line.effective_rank == pytest.approx(1, abs=1e-3)
    z = randn(64, 16)
    z[:, 4:] = 0.3
    assert geometry(z).dead == 12 / 16


def test_a_dimension_is_dead_by_its_variance_beside_the_mean_square_of_all() -> None:
    x = torch.zeros(100, 2)
    x[:, 0] = torch.tensor([1.0, -1.0]).repeat(50)
    for factor, dead in ((0.9, 0.5), (1.1, 0.0)):
        x[:, 1] = (factor * DEAD / 2) ** 0.5 * torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(25)
        assert geometry(x).dead == geometry(1000 * x).dead == dead


def test_labels_bound_the_rank_that_can_be_expected() -> None:
    assert geometry(randn(64, 16), distinct=5).most == 4
    assert geometry(randn(64, 16), distinct=1).most == 1
    assert geometry(randn(10, 16)).most == 9


A0, A1, B0, CROP = View("a", "strong", 0), View("a", "strong", 1), View("b", "weak", 0), View("a", "local", 0)


def test_a_sample_is_a_detached_copy_of_the_first_rows() -> None:
    z = randn(9, 3).requires_grad_()
    (found,) = sample(Call(A0, A1), side(z), side(z[:4]), 5)
    assert (len(found.a), len(found.b), found.rows) == (5, 4, 4)
    assert not found.a.z.requires_grad
    assert found.a.z.untyped_storage().nbytes() == 5 * 3 * 4  # a view would keep all of the batch
    assert sample(Call(A0, A1), side(z), side(z), 0) == []
    assert sample(Call(CROP, A0), side(z), side(z), 5) == []


def test_figures_of_pairs_and_nodes() -> None:
    z = randn(30, 6)
    a, a1, b = (side(z + 0.6 * randn(30, 6, seed=s)) for s in (1, 2, 3))
    terms = [Pair("a", "a"), Pair("a", "b", space="other")]
    seen = {"a-a": [Compared(Call(A0, A1), a, a1, 30)], "a-b": [Compared(Call(A0, B0), a, b, 90)]}
    row = figures_of(terms, seen).flat()
    both = side(torch.cat([a.z, a1.z]), row=[*range(30), *range(30)])
    ab, ba = (by_hand(*two, "positive", "cosine", False) for two in ((a, b), (b, a)))
    assert ab is not None
    assert ba is not None
    apart = (torch.nn.functional.normalize(a.z) - torch.nn.functional.normalize(a1.z)).square().sum(1).mean()
    assert row["a-a/accuracy"] == by_hand(both, both, "positive", "cosine", True)
    assert row["a-a/alignment"] == pytest.approx(float(apart))
    assert (row["a-b/accuracy_ab"], row["a-b/accuracy_ba"]) == (ab, ba)
    assert row["a-b/accuracy"] == pytest.approx((ab + ba) / 2)
    assert row["a.joint/uniformity"] == geometry(a.z).uniformity
    nodes = ("a.joint", "a.other", "b.other")
    assert set(row) == {
        "a-a/accuracy", "a-a/alignment", "a-b/accuracy", "a-b/accuracy_ab", "a-b/accuracy_ba", "a-b/alignment",
        *(f"{n}/{key}" for n in nodes for key in ("uniformity", "effective_rank", "dead_dimensions")),
    }  # fmt: skip
    pairs = figures_of(terms, seen).pairs
    assert (pairs["a-a"].keys, pairs["a-a"].rows, pairs["a-a"].within) == (59, 30, True)
    assert (pairs["a-b"].keys, pairs["a-b"].rows, pairs["a-b"].within) == (30, 90, False)


def test_one_direction_has_one_accuracy() -> None:
    a, b = side(randn(9, 6)), side(randn(9, 6, seed=1))
    found = figures_of(
        [Pair("a", "b", InfoNCE(both_directions=False))], {"a-b": [Compared(Call(A0, B0), a, b, 9)]}
    ).pairs["a-b"]
    assert found.accuracy == dict.fromkeys(("accuracy", "accuracy_ab"), by_hand(a, b, "positive", "cosine", False))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_a_learnt_matrix_is_looked_at_as_its_objective_does(symmetric: bool, nested: bool) -> None:
    """b is a's in other axes, which W knows; crops of one node, too, stand on two sides."""
    z, turn = 3 * torch.nn.functional.normalize(randn(30, 6)), torch.linalg.qr(randn(6, 6, seed=1)).Q
    bilinear = Bilinear(bounded=False)
    objective = Matryoshka(bilinear, dims=(3,)) if nested else bilinear
    module = objective.build((6, 6))
    w = list(module.parameters())[-1]
    with torch.no_grad():
        w.copy_(turn)
    a, b = side(z), side(z @ turn + 0.3 * randn(30, 6, seed=2))
    call = Call(A0, A1 if symmetric else B0, both=True)
    (seen,) = sample(call, a, b, 20, module)
    pair = Pair("a", "a" if symmetric else "b", objective)
    found = figures_of([pair], {pair.name: [seen]})
    agreed = found.pairs[pair.name]
    turned = side((z @ turn)[:20])
    assert agreed.accuracy["accuracy"] == by_hand(turned, side(b.z[:20]), "positive", "dot", False)
    assert agreed.accuracy["accuracy"] > 0.8
    assert agreed.alignment is not None
    assert agreed.alignment < 0.1
    assert (agreed.keys, agreed.within) == (20, False)
    assert found.nodes["a.joint"].uniformity == geometry(a.z[:20]).uniformity  # nodes as they are
    plain = figures_of([pair], {pair.name: sample(call, a, b, 20)}).pairs[pair.name]
    assert plain.accuracy["accuracy"] < 0.5


def test_momentum_keys_are_sought_in_and_are_not_the_nodes_embeddings() -> None:
    z = randn(30, 6)
    a, b, collapsed = side(z), side(z + 0.8 * randn(30, 6, seed=3)), side(torch.ones(30, 6) + 1e-3 * randn(30, 6))
    calls = [Call(A0, B0, both=False, weight=0.5, momentum=True), Call(B0, A0, both=False, weight=0.5, momentum=True)]
    seen = [Compared(calls[0], a, collapsed, 30), Compared(calls[1], b, a, 30)]
    found = figures_of([Pair("a", "b", keys="momentum")], {"a-b": seen})
    assert found.pairs["a-b"].accuracy["accuracy_ab"] == by_hand(a, collapsed, "positive", "cosine", False)
    assert found.pairs["a-b"].accuracy["accuracy_ba"] == by_hand(b, a, "positive", "cosine", False)
    assert found.nodes["b.joint"].uniformity == geometry(b.z).uniformity


def test_what_is_not_there_has_no_figures() -> None:
    none = side(torch.zeros(0, 6))
    assert figures_of([Pair("a", "b")], {}) == Figures({}, {})
    assert figures_of([Pair("a", "b")], {"a-b": [Compared(Call(A0, B0), none, none, 0)]}) == Figures({}, {})
    bad = randn(9, 6)
    bad[3, 2] = torch.nan
    found = figures_of([Pair("a", "b")], {"a-b": [Compared(Call(A0, B0), side(bad), side(bad), 9)]}).flat()
    assert all(map(math.isfinite, found.values()))
    assert found["a-b/accuracy"] == 1
    odd = Compared(Call(A0, B0), side(randn(9, 6)), side(randn(9, 4)), 9)  # widths of a bilinear objective
    assert set(figures_of([Pair("a", "b")], {"a-b": [odd]}).nodes) == {"a.joint", "b.joint"}


@pytest.mark.parametrize("chunk", [None, 3])
def test_a_step_keeps_a_sample_only_where_it_is_asked_for(chunk: int | None) -> None:
    towers = three()
    seen = looks(towers, dict(cells(towers)))

    def taken(rows: int) -> dict[str, list[Compared]]:
        return step(towers, seen, chunk, sampled=rows)[0].compared

    assert not any(taken(0).values())
    found = taken(5)
    assert {name: [len(c.a) for c in kept] for name, kept in found.items()} == {
        "a-b": [5], "a-a": [5], "w-w": [5], "w-b": [5],
    }  # fmt: skip
    batch = seen[0].batch
    assert batch is not None
    z = towers.embed("a", batch, ("joint",))[0]
    torch.testing.assert_close(found["a-b"][0].a.z, z[:5].detach())
    assert found["a-b"][0].a.id.tolist() == [100, 101, 102, 103, 104]
    assert {"a.joint", "a.own", "b.joint", "w.joint"} == set(figures_of(towers.terms, taken(SAMPLE)).nodes)


def test_of_several_ranks_the_first_looks_at_its_own_rows(tmp_path: Path) -> None:
    data = rows(40)
    trained(data, 9, 2, str(tmp_path / "alone"))
    run_ranks(trained, 2, data, 9, 2, str(tmp_path / "together"))
    alone, together = (
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("alone", "together")
    )
    for one, two in zip(alone, together, strict=True):
        assert one.keys() == two.keys()
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
        assert one["a.joint/effective_rank"] != two["a.joint/effective_rank"]
        assert two["a.joint/effective_rank"] <= 4  # of 5 rows
        assert two["a-b/accuracy_ab"] * 5 == pytest.approx(round(two["a-b/accuracy_ab"] * 5))
