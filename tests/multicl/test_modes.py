from __future__ import annotations

import copy
import pickle
import threading
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import Vectors

from multicl import Head, Model, Pair
from multicl.modes import evaluating, train
from multicl.towers import Towers

BEGUN, SECOND_BEGUN, FIRST_DONE = (threading.Event() for _ in range(3))


@dataclass(frozen=True)
class Slow(Vectors):
    """Of two threads the second begins within the first and is still at work when that has ended."""

    def load(self, raw: Any, rng: Any) -> Tensor:
        name = threading.current_thread().name
        if name == "first":
            BEGUN.set()
            SECOND_BEGUN.wait(20)
        elif name == "second":
            SECOND_BEGUN.set()
            FIRST_DONE.wait(20)
        return super().load(raw, rng)


def test_threads_that_embed_at_once_leave_a_training_model_as_it_was() -> None:
    torch.manual_seed(0)
    model = Model(Towers({"a": Slow(dropout=0.5)}, [Pair("a", "a")], Head(dim=4, norm="batch")))
    cells = [[float(i), 1, 2, 3, 4, 5] for i in range(3)]
    wanted = model.embed(a=cells)
    frozen = next(iter(model.towers.encoders.values())).eval()
    found: dict[str, Tensor] = {}

    def embed(name: str) -> None:
        found[name] = model.embed(a=cells)

    first, second = (threading.Thread(target=embed, args=(name,), name=name) for name in ("first", "second"))
    first.start()
    assert BEGUN.wait(20)
    second.start()
    first.join()
    FIRST_DONE.set()
    second.join()
    assert torch.equal(found["first"], wanted)
    assert torch.equal(found["second"], wanted)
    assert model.towers.training
    assert not frozen.training
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(again.embed(a=cells), wanted)


def test_every_module_is_as_it_was_also_after_an_error() -> None:
    net = nn.Sequential(nn.Dropout(), nn.Dropout().eval())

    def fail() -> None:
        with evaluating(net):
            raise ValueError("bad")

    with evaluating(net):
        with pytest.raises(ValueError, match="bad"):
            fail()
        assert not net[0].training
    assert [net.training, net[0].training, net[1].training] == [True, True, False]


def test_what_is_frozen_and_put_in_evaluation_by_hand_does_not_train() -> None:
    def block() -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Sequential(nn.Linear(2, 2), nn.Dropout()), nn.Dropout()
        )

    net = nn.Sequential(block(), block().eval(), block(), nn.BatchNorm1d(2, affine=False))
    by_hand, as_loaded, trained = net[0], net[1], net[2]
    for norm in (by_hand[1], as_loaded[1], trained[1]):
        norm.requires_grad_(False)
    by_hand[1].eval()
    by_hand[2].requires_grad_(False).eval()
    by_hand[3].eval()  # has nothing that could be frozen
    by_hand[2][1].train()  # within what is kept, each as it was
    trained[0].eval()
    net[3].eval()
    train(net)
    still = {name for name, module in net.named_modules() if not module.training}
    assert still == {"0.1", "0.2", "0.2.0", "3"}
