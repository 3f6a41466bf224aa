"""Queues and explicit negatives: what they are to a row, and who takes none. test_over_ranks.py has their gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from multicl import CoSENT, InfoNCE, InputError, Margin, Matryoshka, Mine, Pair, Predicted, Sigmoid, SwAV, objectives
from multicl.distributed import World
from multicl.types import Context, Embedded, Extra, Objective

ROW = torch.arange(4)
SETTINGS: list[dict[str, Any]] = [{"queue": 8}, {"negatives": "c"}, {"mine": Mine()}]


def views() -> tuple[Embedded, Embedded]:
    g = torch.Generator().manual_seed(0)
    a, b = (Embedded(torch.randn(4, 3, dtype=torch.float64, generator=g), ROW, ROW + 10) for _ in range(2))
    return a, b


def test_explicit_negatives_are_keys_of_every_row_and_own_keys_of_a_queue_of_none() -> None:
    a, b = views()
    z = torch.randn(4, 3, dtype=torch.float64)
    explicit, queue = Extra(z, ROW, ROW + 50, "negative"), Extra(z.flip(0), ROW.flip(0), ROW.flip(0) + 10)
    context = Context(World(), extra_a=(explicit, queue))
    loss = InfoNCE(0.5, both_directions=False).build((3, 3))(a, b, context)["loss"]
    u, v, w = (normalize(x, dim=1) for x in (a.z, b.z, z))
    own = torch.eye(4, dtype=torch.bool).flip(1)  # row i's own key stands in the queue's place 3 - i
    logits = torch.cat([u @ v.T, u @ w.T, (u @ w.flip(0).T).masked_fill(own, -torch.inf)], 1) / 0.5
    torch.testing.assert_close(loss, cross_entropy(logits, torch.arange(4)))


@pytest.mark.parametrize("alpha", [0.3, 4.0])
@pytest.mark.parametrize("both", [False, True])
def test_own_negatives_weigh_as_simcse_has_them(alpha: float, both: bool) -> None:
    """Its code adds log(alpha) to the logits of a row's own hard negative; here one is missing, and one is ignored."""
    a, b = views()
    a.z.requires_grad_()
    z = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5)).requires_grad_()
    explicit = Extra(z, torch.tensor([3, 0, 1]), torch.tensor([50, 51, 11]), "negative")  # row 1: of its id
    context = Context(World(), equal_ids="ignore", extra_a=(explicit,))
    loss = InfoNCE(0.5, both_directions=both, own_negative=alpha).build((3, 3))(a, b, context)["loss"]
    u, v, w = (normalize(x, dim=1) for x in (a.z, b.z, z))
    weights = torch.zeros(4, 3, dtype=torch.float64)
    weights[3, 0] = weights[0, 1] = torch.tensor(alpha).double().log()
    weights[1, 2] = -torch.inf
    target = torch.arange(4)
    wanted = cross_entropy(torch.cat([u @ v.T / 0.5, u @ w.T / 0.5 + weights], 1), target)
    if both:
        wanted = (wanted + cross_entropy(v @ u.T / 0.5, target)) / 2
    torch.testing.assert_close(loss, wanted)
    grads = (torch.autograd.grad(x, [a.z, z], retain_graph=True) for x in (loss, wanted))
    for got, right in zip(*grads, strict=True):
        torch.testing.assert_close(got, right)


def test_a_weight_without_negatives_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"own_negative=2.0 weights a row's explicit negatives: give their node as negatives="
    ):
        Pair("a", "b", InfoNCE(own_negative=2.0))
    with pytest.raises(InputError, match="own_negative must be above 0, got 0"):
        InfoNCE(own_negative=0)


@pytest.mark.parametrize("objective", [Margin(), Sigmoid()])
def test_objectives_that_know_no_other_keys_refuse_them(objective: Objective) -> None:
    context = Context(World(), extra_a=(Extra(torch.randn(2, 3), ROW[:2], ROW[:2]),))
    with pytest.raises(InputError, match=f"{type(objective).__name__} takes no queue"):
        objective.build((3, 3))(*views(), context)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(
    "objective",
    [objectives.Bilinear(), objectives.InstanceNCE(), Margin(), Sigmoid(), Matryoshka(Sigmoid(), dims=(2,)), CoSENT()],
)
def test_a_pair_that_would_bring_them_is_refused_before_any_data_are_read(
    objective: Objective, settings: dict[str, Any]
) -> None:
    name = "Sigmoid" if isinstance(objective, Matryoshka) else type(objective).__name__
    target = "score" if isinstance(objective, CoSENT) else None
    with pytest.raises(InputError, match=f"pair 'pictures': {name} takes no queue and no explicit negatives: use a so"):
        Pair("a", "b", objective, name="pictures", target=target, **settings)


def test_a_queue_of_predicted_keys_is_the_inner_objectives_affair() -> None:
    Pair("a", "b", Predicted(InfoNCE()), keys="momentum", queue=8)
    with pytest.raises(InputError, match="Sigmoid takes no queue"):
        Pair("a", "b", Predicted(Sigmoid()), keys="momentum", queue=8)


def test_swav_takes_a_queue_alone() -> None:
    Pair("a", "a", SwAV(), queue=8)
    for settings in SETTINGS[1:]:
        with pytest.raises(InputError, match="pair 'a-a': SwAV takes no explicit negatives: use a soft-max objective"):
            Pair("a", "a", SwAV(), **settings)


class Own:
    """An objective of somebody's own, which says nothing of extras."""

    def build(self, dims: tuple[int, int]) -> torch.nn.Module:
        return Sigmoid().build(dims)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(
    "name", ["InfoNCE", "SupCon", "Decoupled", "HardNegative", "HardestNegatives", "Matryoshka", "Own"]
)
def test_soft_max_objectives_take_them_and_others_may(name: str, settings: dict[str, Any]) -> None:
    special = {"Matryoshka": lambda: Matryoshka(InfoNCE(), dims=(2,)), "Own": Own}
    labels = {"ids": "label"} if name == "SupCon" else {}  # its positives are rows of one label
    Pair("a", "b", special[name]() if name in special else getattr(objectives, name)(), **settings, **labels)
