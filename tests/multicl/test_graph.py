from __future__ import annotations

from typing import Any

import pytest
from torch import nn
from toys import Vectors

from multicl import InfoNCE, InputError, Pair, Trainer
from multicl.graph import check_graph, column_of, core_view, full_graph, requested_views, tower_of
from multicl.pairs import Call, View


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


@pytest.mark.parametrize(
    ("encoder", "said"), [("resnet18", "'resnet18'"), (nn.Linear(2, 2), "Linear"), (object, "type")]
)
def test_an_encoder_in_place_of_its_adapter_is_refused(encoder: Any, said: str) -> None:
    with pytest.raises(InputError, match=rf"^node 'a' is {said}, not an adapter: give the encoder to one"):
        Trainer({"a": encoder}, [Pair("a", "a")], [{"a": [1.0] * 6}])


def test_one_pair_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(InputError, match=r"^terms must be a list, such as \[Pair\(...\)\], got only 'a-a'$"):
        Trainer({"a": Vectors()}, Pair("a", "a"), [{"a": [1.0] * 6}])  # type: ignore[arg-type]


def test_what_is_no_pair_and_nodes_without_names_are_refused() -> None:
    with pytest.raises(InputError, match=r"^a term must be Pair\(...\) or Target\(...\), got \('a', 'b'\)$"):
        check_graph({"a": Vectors(), "b": Vectors()}, [("a", "b")])  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"^modalities must be a dict, node -> adapter, got list$"):
        check_graph([Vectors()], [Pair("a", "a")])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("nodes", "terms", "message"),
    [
        (["a"], [], "terms is empty"),
        (["image"], [Pair("image", "imge")], "names 'imge', but the nodes are .*did you mean 'image'"),
        (["a", "b"], [Pair("a", "b"), Pair("a", "b", weight=2.0)], "two pairs are named 'a-b'"),
        (["a", "b", "c"], [Pair("a", "b")], r"no pair uses \['c'\]"),
        (["a b"], [Pair("a b", "a b", name="x")], "node name 'a b': use only letters"),
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
