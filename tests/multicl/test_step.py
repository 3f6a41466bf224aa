from __future__ import annotations

import torch
from toys import Vectors, rows

from multicl import InfoNCE, Pair, Train, Trainer
from multicl.distributed import World
from multicl.pairs import View
from multicl.seeds import seed_everything
from multicl.step import exact_step
from multicl.towers import Request, Towers
from multicl.types import Batch, Context, Embedded


def towers() -> Towers:
    seed_everything("test")
    terms = [Pair("a", "b", InfoNCE(0.3, learnable=True)), Pair("a", "a", weight=0.5)]
    return Towers({"a": Vectors(dropout=0.2), "b": Vectors(width=5)}, terms)


def requests(t: Towers, lacking: int = 0) -> list[Request]:
    data = rows(8)
    found = []
    for number, (view, spaces) in enumerate(t.requests.items()):
        cells = [r[view.node] for r in data]
        batch = Batch({"x": torch.tensor(cells)})
        if view.node == "b":
            batch = batch[slice(lacking, None)] if lacking < 8 else None  # type: ignore[assignment]
        found.append(Request(view, batch, spaces, (7, number)))
    return found


def step(t: Towers, asked: list[Request]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    t.zero_grad()
    outcome = exact_step(
        t,
        t,
        asked,
        ids=lambda pair, row: row + 100,
        context=lambda pair: Context(World(), symmetric=pair.symmetric),
        backward=torch.Tensor.backward,
    )
    return outcome.loss, {name: p.grad.clone() for name, p in t.named_parameters() if p.grad is not None}


def test_the_gradient_is_that_of_one_plain_backward() -> None:
    t = towers()
    asked = requests(t, lacking=3)
    loss, grads = step(t, asked)
    t.zero_grad()
    z = t(asked)
    batches = {request.view: request.batch for request in asked}
    plain = torch.zeros(())
    for pair in t.terms:
        sides = []
        for view in pair.views:
            batch = batches[view]
            assert batch is not None
            sides.append(Embedded(z[view, pair.space], batch.row, batch.row + 100))
        a, b = sides
        shared = [row for row in a.row.tolist() if row in b.row.tolist()]
        a = a[torch.isin(a.row, torch.tensor(shared))]
        plain = plain + pair.weight * t.objectives[pair.name](a, b, Context(World(), symmetric=pair.symmetric))["loss"]
    plain.backward()
    torch.testing.assert_close(loss, plain.detach())
    for name, p in t.named_parameters():
        torch.testing.assert_close(grads[name], p.grad, msg=name)


def test_every_parameter_gets_a_gradient_where_a_modality_is_absent() -> None:
    t = towers()
    loss, grads = step(t, requests(t, lacking=8))
    assert torch.isfinite(loss)
    assert set(grads) == {name for name, _ in t.named_parameters()}
    assert all(g.abs().sum() == 0 for name, g in grads.items() if name.startswith("encoders.b"))
    assert any(g.abs().sum() > 0 for name, g in grads.items() if name.startswith("encoders.a"))


def test_dropout_draws_anew_for_each_view_and_step_and_again_for_the_same() -> None:
    t = towers()
    asked = requests(t)
    first, second = (View("a", "strong", draw) for draw in (0, 1))
    same_input = [request._replace(batch=asked[0].batch) for request in asked if request.view.node == "a"]
    z = t(same_input)
    assert not torch.equal(z[first, "joint"], z[second, "joint"])
    again = t(same_input)
    assert torch.equal(z[first, "joint"], again[first, "joint"])


def test_a_users_random_state_does_not_decide_the_run() -> None:
    weights = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        train = Train(batch_size=8, steps=3)
        trainer = Trainer({"a": Vectors(dropout=0.3)}, [Pair("a", "a")], data=rows(16), train=train)
        trainer.fit()
        weights.append([p.detach().clone() for p in trainer.towers.parameters()])
    assert all(torch.equal(p, q) for p, q in zip(*weights, strict=True))
