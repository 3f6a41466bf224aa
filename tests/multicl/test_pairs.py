from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from torch import nn
from toys import Vectors

from multicl import InfoNCE, InputError, Matryoshka, NTXent, Pair, SupCon, Trainer
from multicl.pairs import Call, View, check_graph, column_of, core_view, full_graph, requested_views, tower_of


def test_a_pair_of_one_node_asks_for_two_strong_views() -> None:
    pair = Pair("image", "image")
    assert (pair.name, pair.symmetric) == ("image-image", True)
    assert pair.calls == (Call(View("image", "strong", 0), View("image", "strong", 1)),)


def test_a_pair_of_two_nodes_asks_for_a_weak_view_of_each() -> None:
    pair = Pair("image", "text")
    assert (pair.name, pair.symmetric) == ("image-text", False)
    assert pair.calls == (Call(View("image", "weak", 0), View("text", "weak", 0)),)


def test_a_view_is_asked_for_once_however_many_pairs_use_it() -> None:
    terms = [Pair("image", "image"), Pair("image", "text"), Pair("image", "audio", space="sound")]
    assert requested_views(terms) == {
        View("image", "strong", 0): ("joint",),
        View("image", "strong", 1): ("joint",),
        View("image", "weak", 0): ("joint", "sound"),
        View("text", "weak", 0): ("joint",),
        View("audio", "weak", 0): ("sound",),
    }


def test_the_full_graph_and_the_core_view() -> None:
    sharp = InfoNCE(temperature=0.07)
    assert [(p.a, p.b) for p in full_graph("rgb", "depth", "audio")] == [
        ("rgb", "depth"),
        ("rgb", "audio"),
        ("depth", "audio"),
    ]
    assert core_view("image", of="text") == core_view("image", of=["text"])
    star = core_view("image", of=("text", "audio"), objective=sharp)
    assert [(p.a, p.b, p.objective) for p in star] == [("image", "text", sharp), ("image", "audio", sharp)]


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_below_zero_is_refused(weight: float) -> None:
    with pytest.raises(InputError, match="weight must be 0 or more, got"):
        Pair("a", "b", weight=weight)


@pytest.mark.parametrize(("objective", "name"), [(InfoNCE, "InfoNCE"), (max, "max"), (0.1, "0.1")])
def test_an_objective_that_is_no_settings_is_refused(objective: Any, name: str) -> None:
    with pytest.raises(InputError, match=rf"pair 'a-b': objective must be settings .*as InfoNCE\(\), got {name}$"):
        Pair("a", "b", objective)


@pytest.mark.parametrize(
    ("encoder", "said"), [("resnet18", "'resnet18'"), (nn.Linear(2, 2), "Linear"), (object, "type")]
)
def test_an_encoder_in_place_of_its_adapter_is_refused(encoder: Any, said: str) -> None:
    with pytest.raises(InputError, match=rf"^node 'a' is {said}; give an encoder to its adapter"):
        Trainer({"a": encoder}, [Pair("a", "a")], [{"a": [1.0] * 6}])


def test_one_pair_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(InputError, match=r"^terms must be a list, as \[Pair\(...\)\], got 'a-a' alone$"):
        Trainer({"a": Vectors()}, Pair("a", "a"), [{"a": [1.0] * 6}])  # type: ignore[arg-type]


def test_what_is_no_pair_and_nodes_without_names_are_refused() -> None:
    with pytest.raises(InputError, match=r"^a term must be Pair\(...\) or Target\(...\), got \('a', 'b'\)$"):
        check_graph({"a": Vectors(), "b": Vectors()}, [("a", "b")])  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"^modalities must be a dict, node -> adapter, got a list$"):
        check_graph([Vectors()], [Pair("a", "a")])  # type: ignore[arg-type]


def test_labels_are_asked_for_where_the_objective_is_of_labels() -> None:
    for objective in (SupCon(), Matryoshka(SupCon(), dims=(2,))):
        Pair("a", "a", objective, ids="label")
        with pytest.raises(InputError, match=r"^pair 'a-a': SupCon's positives are rows of one label: give ids="):
            Pair("a", "a", objective)


@pytest.mark.parametrize("field", ["name", "space"])
@pytest.mark.parametrize("value", ["two words", "a/b", "1st", "a.b"])
def test_names_that_cannot_be_saved_are_refused(field: str, value: str) -> None:
    with pytest.raises(InputError, match=f"'{value}': use letters"):
        Pair("a", "b", **{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("nodes", "terms", "message"),
    [
        (["a"], [], "terms is empty"),
        (["image"], [Pair("image", "imge")], "names 'imge', but the nodes are .*did you mean 'image'"),
        (["a", "b"], [Pair("a", "b"), Pair("a", "b", weight=2.0)], "two pairs are named 'a-b'"),
        (["a", "b", "c"], [Pair("a", "b")], r"no pair uses \['c'\]"),
        (["a b"], [Pair("a b", "a b", name="x")], "node 'a b': use letters"),
    ],
)
def test_a_graph_that_cannot_be_trained_is_refused(nodes: list[str], terms: list[Pair], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_graph({node: Vectors() for node in nodes}, terms)


def test_a_graph_that_can_be_trained_passes() -> None:
    check_graph({"a": Vectors(), "b": Vectors()}, [Pair("a", "b"), Pair("a", "a"), Pair("b", "a", name="back")])


def test_column_and_tower_are_the_nodes_name_or_what_the_adapter_says() -> None:
    assert (column_of("a", Vectors()), tower_of("a", Vectors())) == ("a", "a")
    named = Vectors(column="x", tower="shared")
    assert (column_of("a", named), tower_of("a", named)) == ("x", "shared")


def test_every_draw_meets_every_other_and_crops_meet_whole_views_alone() -> None:
    calls = Pair("image", "image", draws=2, local_draws=2).calls
    whole, crops = [View("image", "strong", d) for d in (0, 1)], [View("image", "local", d) for d in (0, 1)]
    assert calls[0] == Call(whole[0], whole[1], both=True, weight=2 / 6)
    assert list(calls[1:]) == [Call(crop, view, both=False, weight=1 / 6) for crop in crops for view in whole]
    assert [(c.a.draw, c.b.draw) for c in Pair("image", "image", draws=3).calls] == [(0, 1), (0, 2), (1, 2)]


def test_momentum_keys_are_asked_for_each_way_and_never_train() -> None:
    pair = Pair("image", "text", keys="momentum")
    image, text = View("image", "weak", 0), View("text", "weak", 0)
    assert pair.calls == (
        Call(image, text, both=False, weight=0.5, momentum=True),
        Call(text, image, both=False, weight=0.5, momentum=True),
    )
    one_way = Pair("image", "image", InfoNCE(both_directions=False), keys="momentum")
    first, second = View("image", "strong", 0), View("image", "strong", 1)
    assert requested_views([one_way]) == {first: ("joint",)}
    assert requested_views([one_way], momentum=True) == {second: ("joint",)}


def test_explicit_negatives_are_a_view_of_their_node() -> None:
    pair = Pair("anchor", "positive", negatives="negative")
    assert View("negative", "weak", 0) in requested_views([pair])
    check_graph({"anchor": Vectors(), "positive": Vectors(), "negative": Vectors()}, [pair])
    with pytest.raises(InputError, match=r"names 'negativ', but the nodes are .*did you mean 'negative'"):
        check_graph(
            {"anchor": Vectors(), "positive": Vectors(), "negative": Vectors()},
            [Pair("anchor", "positive", negatives="negativ"), Pair("negative", "negative")],
        )


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
    with pytest.raises(InputError, match="several draws are for a pair of one node"):
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
    with pytest.raises(InputError, match="crossed is for a pair of two nodes"):
        Pair("l", "l", crossed=True)
