"""A classifier beside contrastive terms, against plain backwards; test_targets_ranks.py has two ranks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from steps import Grads, Ids, apart, cells, looks
from steps import context as pair_context
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from toys import Vectors, rows

import multicl
from multicl import CrossEntropy, Head, InfoNCE, InputError, Model, Pair, Target, Train, Trainer
from multicl.data.classes import class_numbers, with_classes
from multicl.data.reader import Reader
from multicl.data.rows import open_rows
from multicl.graph import Term, check_graph, requested_views
from multicl.pairs import Call, View
from multicl.predict import accuracy
from multicl.seeds import seed_everything
from multicl.towers import Towers
from multicl.training.chunks import cut
from multicl.training.step import exact_step
from multicl.types import Context

CLASSES = ("0", "1", "2")
TARGET = Target("a", "label", weight=0.7, classes=CLASSES)
LABELS = torch.tensor([0, -1, 2, 2, -1, 1, -1, 0])


class Numbers(Ids):
    """A target's classes by row."""

    def __call__(self, term: Term, row: Tensor, negatives: bool = False) -> Tensor:
        return LABELS[row] if isinstance(term, Target) else super().__call__(term, row, negatives)


def contexts(term: Term, call: Call | None) -> Context:
    return pair_context(term, call) if isinstance(term, Pair) and call else pair_context(PAIR, PAIR.calls[0])


PAIR = Pair("a", "a", InfoNCE(0.3))


def made(*terms: Term, dropout: float = 0.0) -> Towers:
    seed_everything("test")
    return Towers({"a": Vectors(dropout=dropout)}, terms, Head(dim=7))


def stepped(towers: Towers, chunk: int | None = None, batch: Any = None) -> tuple[Any, Grads]:
    towers.zero_grad()
    seen = looks(towers, {"a": batch or cells(towers)["a"]})
    outcome = exact_step(towers, towers, seen, Numbers(), contexts, torch.Tensor.backward, chunk)
    return outcome, {name: p.grad.clone() for name, p in towers.named_parameters() if p.grad is not None}


def plain(towers: Towers, smoothing: float = 0.0) -> Tensor:
    """The loss of pair and target on whole batches, without dropout."""
    batch = cells(towers)["a"]
    (h,) = towers.embed("a", batch, [None])
    linear: Any = towers.objectives["a-label"].linear  # type: ignore[union-attr]
    kept = LABELS >= 0
    supervised = cross_entropy(h[kept] @ linear.weight.T + linear.bias, LABELS[kept], label_smoothing=smoothing)
    if not towers.pairs:
        return TARGET.weight * supervised
    (z,) = towers.project("a", h, ["joint"])
    u = nn.functional.normalize(torch.cat([z, z]), dim=1)
    logits = u @ u.T / 0.3 + torch.diag(torch.full((16,), -torch.inf))
    return cross_entropy(logits, torch.arange(16).roll(8)) + TARGET.weight * supervised


@pytest.mark.parametrize("chunk", [None, 1, 3, 8])
@pytest.mark.parametrize("terms", [[PAIR, TARGET], [TARGET, PAIR], [TARGET]])
def test_the_gradient_is_that_of_a_plain_backward(terms: list[Term], chunk: int | None) -> None:
    towers = made(*terms)
    wanted = plain(towers)
    grads = dict(zip(dict(towers.named_parameters()), torch.autograd.grad(wanted, [*towers.parameters()]), strict=True))
    outcome, found = stepped(towers, chunk)
    torch.testing.assert_close(outcome.loss, wanted.detach())
    assert apart(found, grads) < 1e-5
    assert grads["objectives.a-label.linear.weight"].norm() > 0.01
    assert outcome.logged["a-label"]["labelled"] == 5
    assert 0 <= outcome.logged["a-label"]["accuracy"] <= 1


def test_dropout_is_replayed() -> None:
    towers = made(TARGET, dropout=0.3)
    (look,) = looks(towers, {"a": cells(towers)["a"]})
    h = torch.cat([next(iter(towers(part.requests()).values())) for part in cut(look, 3)])
    linear: Any = towers.objectives["a-label"]
    loss = 0.7 * cross_entropy(linear.logits(h)[LABELS >= 0], LABELS[LABELS >= 0])
    grads = torch.autograd.grad(loss, [*towers.parameters()])
    wanted = dict(zip(dict(towers.named_parameters()), grads, strict=True))
    assert apart(stepped(towers, 3)[1], wanted) < 1e-5
    assert apart(stepped(towers)[1], wanted) > 0.05  # other chunks drop other units


@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize("terms", [[PAIR, TARGET], [TARGET]])
def test_on_a_frozen_encoder_the_classifier_alone_trains(terms: list[Term], chunk: int | None) -> None:
    towers = made(*terms)
    towers.encoders.requires_grad_(False)
    trained = {name: p for name, p in towers.named_parameters() if p.requires_grad}
    wanted = dict(zip(trained, torch.autograd.grad(plain(towers), [*trained.values()]), strict=True))
    _, found = stepped(towers, chunk)
    assert found.keys() == wanted.keys()
    assert apart(found, wanted) < 1e-5


def test_rows_without_labels_change_nothing_and_a_batch_may_have_none() -> None:
    towers = made(TARGET)
    batch = cells(towers)["a"]
    _, every = stepped(towers)
    _, few = stepped(towers, batch=batch[LABELS >= 0])
    assert apart(every, few) < 1e-6
    outcome, none = stepped(towers, batch=batch[LABELS < 0])
    assert outcome.loss == 0
    assert all(g.abs().sum() == 0 for g in none.values())


def test_smoothed_labels() -> None:
    towers = made(Target("a", "label", CrossEntropy(0.2), weight=0.7, classes=CLASSES))
    torch.testing.assert_close(stepped(towers)[0].loss, plain(towers, 0.2).detach())
    with pytest.raises(InputError, match=r"smoothing must be in \[0, 1\), got 1"):
        CrossEntropy(1.0)


def test_a_target_looks_at_a_view_that_is_there_already() -> None:
    strong, weak = View("a", "strong", 0), View("a", "weak", 0)
    for terms in ([PAIR, TARGET], [TARGET, PAIR]):
        assert requested_views(terms)[strong] in (("joint", None), (None, "joint"))
        assert weak not in requested_views(terms)
    assert requested_views([Pair("a", "b"), TARGET])[weak] == ("joint", None)
    assert requested_views([TARGET]) == {weak: (None,)}
    moco = Pair("a", "a", keys="momentum")
    assert all(None not in spaces for spaces in requested_views([moco, TARGET], momentum=True).values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, "weight must be 0 or more, got -1"),
        ({"name": "two words"}, "use only letters"),
        ({"classes": ("a",)}, "classes must be two or more, all different"),
        ({"classes": ("a", "b", "a")}, "classes must be two or more, all different"),
    ],
)
def test_targets_that_cannot_be(options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Target("a", "label", **options)


def test_graphs_that_cannot_be() -> None:
    nodes = {"a": Vectors(), "b": Vectors()}
    check_graph(nodes, [Pair("a", "b"), TARGET])
    check_graph({"a": Vectors()}, [TARGET])
    with pytest.raises(InputError, match="target 'c-label' names 'c', but the nodes are"):
        check_graph(nodes, [Pair("a", "b"), Target("c", "label")])
    with pytest.raises(InputError, match="two terms are named 'a-label'"):
        check_graph(nodes, [Pair("a", "b", name="a-label"), TARGET])
    with pytest.raises(InputError, match=r"no pair uses \['b'\]"):
        check_graph(nodes, [TARGET])
    with pytest.raises(InputError, match="target 'a-label' has no classes"):
        made(Target("a", "label"))


# Classes


def table(*labels: Any) -> Any:
    return open_rows([{"a": row["a"], "label": label} for row, label in zip(rows(len(labels)), labels, strict=True)])


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ((10, 2, None, 2, -1), ("2", "10")),
        (("b", "a", "", None), ("a", "b")),
        ((True, False, float("nan")), ("0", "1")),
        ((-3, "x", 4.0), ("-3", "4", "x")),
    ],
)
def test_classes_are_those_of_the_column_in_order(labels: Any, classes: tuple[str, ...]) -> None:
    (found,) = with_classes([Target("a", "label")], table(*labels))
    assert isinstance(found, Target)
    assert found.classes == classes
    numbers = class_numbers(found, labels)
    assert [classes[n] if n >= 0 else None for n in numbers] == [
        None if x in (None, -1, "") or x != x else str(int(x) if not isinstance(x, str) else x) for x in labels
    ]


def test_labels_that_are_no_class() -> None:
    with pytest.raises(
        InputError, match=r"row 1 has the label 'cow', which is not one of its classes \['0', '1', '2'\]"
    ):
        class_numbers(TARGET, ["1", "cow"])
    with pytest.raises(InputError, match="row 40 has the label '7'"):
        class_numbers(TARGET, [7], [40])
    with pytest.raises(InputError, match="row 1 has the label '3'"):
        Reader(table(0, 3), {"a": Vectors()}, [TARGET])
    with pytest.raises(InputError, match=r"column 'label' holds \['4'\]: two classes"):
        with_classes([Target("a", "label")], table(4, 4, None))
    with pytest.raises(InputError, match=r"no column 'lable', the labels of target 'a-lable'"):
        with_classes([Target("a", "lable")], table(4, 4))


class Endless:
    def __iter__(self) -> Any:
        while True:
            yield from ({"a": row["a"], "label": i % 3} for i, row in enumerate(rows(12)))


def test_a_stream_is_told_its_classes() -> None:
    with pytest.raises(InputError, match=r"a stream's classes are not known in advance: give classes="):
        with_classes([Target("a", "label")], open_rows(Endless()))
    trainer = Trainer({"a": Vectors()}, [TARGET], Endless(), train=Train(batch_size=6, steps=2), space=None)
    assert trainer.fit().predict(a=[rows(1)[0]["a"]])[0] in CLASSES


def test_a_graph_of_targets_alone_has_no_space() -> None:
    with pytest.raises(InputError, match="the model has no pairs, so no space 'joint': give space=None for features"):
        Trainer({"a": Vectors()}, [Target("a", "label")], few(), train=Train(batch_size=6, steps=2))


# A run and its model


def few(n: int = 120) -> list[dict[str, Any]]:
    """Rows whose label is the largest of their first three numbers; every other has none."""
    return [
        {"a": r["a"], "label": None if i % 2 else f"c{max(range(3), key=lambda k: r['a'][k])}", "truth": r["a"]}
        for i, r in enumerate(rows(n))
    ]


def trained(run: Path | None = None, **options: Any) -> Model:
    train = Train(batch_size=30, steps=80, lr=0.02, **options)
    terms = [Pair("a", "a", InfoNCE(0.3), weight=0.2), Target("a", "label")]
    return Trainer({"a": Vectors(width=16)}, terms, few(), train=train, run=run, space=None).fit()


def test_it_learns_from_the_labelled_rows_and_a_loaded_model_predicts(tmp_path: Path) -> None:
    model = trained(tmp_path / "run")
    held = [{"a": r["a"], "label": f"c{max(range(3), key=lambda k: r['a'][k])}"} for r in rows(90, seed=7)]
    share = accuracy(model, open_rows(held))
    assert share > 0.8
    again = multicl.load(tmp_path / "run", device="cpu")
    assert accuracy(again, open_rows(held)) == share
    predicted = again.predict(a=[r["a"] for r in held])
    assert sum(p == r["label"] for p, r in zip(predicted, held, strict=True)) == round(90 * share)
    assert again.towers.targets == model.towers.targets
    assert again.towers.targets[0].classes == ("c0", "c1", "c2")
    assert "Target: a-label, 3 classes." in (tmp_path / "run" / "model" / "README.md").read_text()
    renamed = open_rows([{"a": r["a"], "kind": r["label"]} for r in held])
    assert accuracy(again, renamed, column="kind") == share
    with pytest.raises(InputError, match="row 0 has the label 'c9', which is not one of its classes"):
        accuracy(again, open_rows([{**held[0], "label": "c9"}]))
    with pytest.raises(InputError, match="no readable row has a label"):
        accuracy(again, open_rows([{**held[0], "label": None}]))


def test_what_cannot_be_predicted(tmp_path: Path) -> None:
    cell = rows(1)[0]["a"]
    with pytest.raises(InputError, match="the model has no targets of 'a'"):
        Model(made(PAIR)).predict(a=[cell])
    twice = Model(made(PAIR, TARGET, Target("a", "other", classes=("x", "y"))))
    with pytest.raises(InputError, match=r"has 2 targets of 'a'; its targets are \['a-label', 'a-other'\]"):
        twice.predict(a=[cell])
    assert twice.predict("a-other", a=[cell])[0] in ("x", "y")
    with pytest.raises(InputError, match="predict takes one node at a time"):
        twice.predict()

    @dataclass(frozen=True)
    class Own:
        def build(self, dims: tuple[int, int]) -> nn.Module:
            return nn.Linear(*dims)

    Model(made(PAIR, Target("a", "label", Own(), classes=CLASSES))).save(tmp_path / "m")
    loaded = multicl.load(tmp_path / "m", device="cpu")
    with pytest.raises(
        InputError, match=r"its objective has no `logits`, which predicting needs \(multicl's own have\)"
    ):
        loaded.predict(a=[cell])


def test_a_classifier_without_its_weights_is_refused(tmp_path: Path) -> None:
    Model(made(PAIR, TARGET)).save(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    save_file({n: t for n, t in load_file(path).items() if not n.startswith("objectives.")}, path)
    with pytest.raises(InputError, match=r"does not fit its config\.json: 'objectives\.a-label\.linear\.bias'"):
        multicl.load(tmp_path / "m")


def test_a_run_is_the_same_in_chunks_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole, cut = (trained(chunk_size=size).embed(a=[r["a"] for r in few(9)]) for size in (None, 7))
    torch.testing.assert_close(whole, cut, rtol=1e-3, atol=1e-4)
    data, terms = few(), [Pair("a", "a"), Target("a", "label")]

    def trainer(steps: int, resume: bool) -> Trainer:
        train = Train(batch_size=30, steps=steps, lr=0.02)
        return Trainer({"a": Vectors()}, terms, data, train=train, run=tmp_path / "run", resume=resume)

    trainer(3, False).fit()
    assert trainer(5, True).fit().predict(a=[r["a"] for r in data])
