from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from multicl import InfoNCE, InputError, Matryoshka, NTXent, Pair, SupCon
from multicl.pairs import Call, View


def test_a_pair_of_one_node_asks_for_two_strong_views() -> None:
    pair = Pair("image", "image")
    assert (pair.name, pair.symmetric) == ("image-image", True)
    assert pair.calls == (Call(View("image", "strong", 0), View("image", "strong", 1)),)


def test_a_pair_of_two_nodes_asks_for_a_weak_view_of_each() -> None:
    pair = Pair("image", "text")
    assert (pair.name, pair.symmetric) == ("image-text", False)
    assert pair.calls == (Call(View("image", "weak", 0), View("text", "weak", 0)),)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_below_zero_is_refused(weight: float) -> None:
    with pytest.raises(InputError, match="weight must be 0 or more, got"):
        Pair("a", "b", weight=weight)


@pytest.mark.parametrize(("objective", "name"), [(InfoNCE, "InfoNCE"), (max, "max"), (0.1, "0.1")])
def test_an_objective_that_is_no_settings_is_refused(objective: Any, name: str) -> None:
    with pytest.raises(InputError, match=rf"pair 'a-b': objective must be settings .*as InfoNCE\(\), got {name}$"):
        Pair("a", "b", objective)


def test_labels_are_asked_for_where_the_objective_is_of_labels() -> None:
    for objective in (SupCon(), Matryoshka(SupCon(), dims=(2,))):
        Pair("a", "a", objective, ids="label")
        with pytest.raises(InputError, match=r"^pair 'a-a': SupCon needs labels: give their column as ids="):
            Pair("a", "a", objective)


@pytest.mark.parametrize("field", ["name", "space"])
@pytest.mark.parametrize("value", ["two words", "a/b", "1st", "a.b"])
def test_names_that_cannot_be_saved_are_refused(field: str, value: str) -> None:
    with pytest.raises(InputError, match=f"'{value}': use only letters"):
        Pair("a", "b", **{field: value})  # type: ignore[arg-type]


def test_every_draw_meets_every_other_and_crops_meet_whole_views_alone() -> None:
    calls = Pair("image", "image", draws=2, local_draws=2).calls
    whole, crops = [View("image", "strong", d) for d in (0, 1)], [View("image", "local", d) for d in (0, 1)]
    assert calls[0] == Call(whole[0], whole[1], both=True, weight=2 / 6)
    assert list(calls[1:]) == [Call(crop, view, both=False, weight=1 / 6) for crop in crops for view in whole]
    assert [(c.a.draw, c.b.draw) for c in Pair("image", "image", draws=3).calls] == [(0, 1), (0, 2), (1, 2)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queue": -1}, "queue must be 0 or more, got -1"),
        ({"draws": 1}, "draws must be 2 or more"),
        ({"local_draws": -1}, "local_draws 0 or more, got 2 and -1"),
    ],
)
def test_options_of_a_pair_that_cannot_be_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Pair("a", "a", **options)  # type: ignore[arg-type]


def test_several_draws_are_of_one_node() -> None:
    with pytest.raises(InputError, match="more than two draws need a pair of one node"):
        Pair("a", "b", local_draws=2)


def test_nt_xent_has_no_keys_of_its_own() -> None:
    with pytest.raises(InputError, match="use InfoNCE"):
        Pair("a", "a", NTXent(), keys="momentum")


def test_crossed_views_never_meet_their_own_picture() -> None:
    pair = Pair("l", "ab", crossed=True)
    assert [(c.a, c.b, c.both, c.weight) for c in pair.calls] == [
        (View("l", "strong", 0), View("ab", "strong", 1), True, 0.5),
        (View("l", "strong", 1), View("ab", "strong", 0), True, 0.5),
    ]
    momentum = replace(pair, keys="momentum")
    assert len(momentum.calls) == 4
    assert all(call.a.draw != call.b.draw and call.a.node != call.b.node for call in momentum.calls)
    with pytest.raises(InputError, match="crossed needs a pair of two nodes"):
        Pair("l", "l", crossed=True)
