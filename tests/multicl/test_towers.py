from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from toys import Vectors, rows

from multicl import Bilinear, Head, InputError, Matryoshka, Pair
from multicl.towers import Towers
from multicl.types import Batch


def test_nodes_that_name_one_tower_share_its_weights() -> None:
    t = Towers({"term": Vectors(tower="text"), "definition": Vectors(tower="text")}, [Pair("term", "definition")])
    assert list(t.encoders) == ["text"]
    batch = Batch({"x": torch.tensor([r["a"] for r in rows(4)])})
    (a,), (b,) = (t.embed(node, batch, ["joint"]) for node in ("term", "definition"))
    assert torch.equal(a, b)


def test_a_shared_tower_needs_equal_settings() -> None:
    nodes = {"x": Vectors(tower="t", width=8), "y": Vectors(tower="t", width=9)}
    with pytest.raises(InputError, match="share tower 't' but differ in width: 8 and 9"):
        Towers(nodes, [Pair("x", "y")])


def test_one_head_a_tower_and_space() -> None:
    terms = [Pair("a", "b"), Pair("a", "a", space="own")]
    t = Towers({"a": Vectors(), "b": Vectors()}, terms, {"own": Head(dim=3, layers=1)})
    assert sorted(t.heads) == ["a/joint", "a/own", "b/joint"]
    assert t.spaces_of("a") == ("joint", "own")
    assert t.spaces_of("b") == ("joint",)
    batch = Batch({"x": torch.zeros(2, 6)})
    joint, own, features = t.embed("a", batch, ["joint", "own", None])
    assert (joint.shape, own.shape, features.shape) == ((2, 128), (2, 3), (2, 8))


def test_nodes_that_a_matrix_alone_compares_are_told() -> None:
    nodes = {"a": Vectors(), "b": Vectors(), "c": Vectors(tower="a")}
    terms = [Pair("a", "b", Bilinear()), Pair("a", "a", Bilinear()), Pair("a", "c", Bilinear()), Pair("b", "c")]
    (told,) = Towers(nodes, terms, Head(dim=4)).notes
    assert told.startswith("pair 'a-b': Bilinear compares 'a' and 'b' by its matrix")
    assert "cannot be compared by cosine" in told
    (told,) = Towers(nodes, [Pair("a", "b", Matryoshka(Bilinear(), dims=(2,))), Pair("a", "c")], Head(dim=4)).notes
    assert "Bilinear" in told


def test_no_head_gives_the_features() -> None:
    t = Towers({"a": Vectors()}, [Pair("a", "a")], Head(layers=0))
    (z,) = t.embed("a", Batch({"x": torch.ones(2, 6)}), ["joint"])
    assert z.shape == (2, 8)
    assert t.dim("a", "joint") == 8


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_heads_of_several_layers(norm: str) -> None:
    head, dim = Head(dim=5, layers=3, hidden=7, norm=norm).build(4)  # type: ignore[arg-type]
    assert dim == 5
    assert head(torch.randn(6, 4)).shape == (6, 5)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_centred_head_leaves_no_direction_that_all_rows_share(layers: int) -> None:
    torch.manual_seed(0)
    head, dim = Head(dim=5, layers=layers, centred=True).build(4)
    z = head(3 + torch.randn(64, 4))
    assert dim == 5
    torch.testing.assert_close(z.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.var(0, unbiased=False), torch.ones(5), atol=0.05, rtol=0)
    assert not [name for name, _ in head.named_parameters() if name.startswith(f"{len(head) - 1}.")]  # type: ignore[arg-type]


def test_heads_of_unknown_spaces_are_refused() -> None:
    with pytest.raises(InputError, match=r"heads are given for \['jiont'\]"):
        Towers({"a": Vectors()}, [Pair("a", "a")], {"jiont": Head()})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Head(dim=0), "head.dim must be 1 or more, got 0"),
        (lambda: Head(layers=-1), "head.layers must be 0 or more, got -1"),
        (lambda: Head(hidden=0), "head.hidden must be 1 or more, got 0"),
    ],
)
def test_heads_that_cannot_be_are_refused(make: Callable[[], Head], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
