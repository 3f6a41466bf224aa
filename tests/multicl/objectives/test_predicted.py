"""A predictor before the rows that ask: against the same computed by hand, and what must be without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ranked_predicted import predicted
from ranks import run_ranks
from toys import Vectors, rows

from multicl import Head, InfoNCE, InputError, Model, NTXent, Pair, Predicted, load
from multicl.distributed import World
from multicl.towers import Towers
from multicl.training.memory import Memory
from multicl.training.synced import synchronise
from multicl.types import Context, Embedded

PAIR = Pair("a", "a", Predicted(InfoNCE(0.2, learnable=True), hidden=5, norm="layer"), keys="momentum")


def view(seed: int, width: int) -> Embedded:
    z = torch.randn(5, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    return Embedded(z, torch.arange(5), torch.tensor([0, 0, 1, 2, 3]))


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_is_the_objective_of_the_predictions(norm: str) -> None:
    module = Predicted(InfoNCE(0.2), hidden=7, norm=norm).build((6, 4)).double()  # type: ignore[arg-type]
    a, b, context = view(0, 6), view(1, 4), Context(World(), both=False)
    first, middle, _, last = module.predictor  # type: ignore[misc, union-attr]
    hidden = a.z @ first.weight.T + first.bias
    if norm != "none":
        dim = 0 if norm == "batch" else 1
        hidden = (hidden - hidden.mean(dim, keepdim=True)) / (hidden.var(dim, False, keepdim=True) + 1e-5).sqrt()
    assert (norm == "none") == isinstance(middle, torch.nn.Identity)
    by_hand = hidden.relu() @ last.weight.T + last.bias
    wanted = InfoNCE(0.2).build((4, 4))(replace(a, z=by_hand), b, context)["loss"]
    found = module(a, b, context)["loss"]
    torch.testing.assert_close(found, wanted)
    got, right = (torch.autograd.grad(loss, (a.z, first.weight), retain_graph=True) for loss in (found, wanted))
    torch.testing.assert_close(got, right)
    assert all(g.abs().sum() > 0 for g in got)


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_other_ranks_are_asked_where_a_synchronised_norm_waits_for_them(
    monkeypatch: pytest.MonkeyPatch, norm: str
) -> None:
    asked: list[tuple[bool, ...]] = []
    monkeypatch.setattr(World, "agree", lambda self, *flags: asked.append(flags) or list(flags))
    module = Predicted(InfoNCE(0.2), hidden=7, norm=norm).build((6, 4)).double()  # type: ignore[arg-type]
    module(view(0, 6), view(1, 4), Context(World(), both=False))
    assert not asked
    synchronise(module)
    module(view(0, 6), view(1, 4), Context(World(), both=False))
    assert asked == ([(True, True)] if norm == "batch" else [])  # rows on this rank; more than one


def test_momentum_towers_have_none_and_a_loaded_model_embeds_without_it(tmp_path: Path) -> None:
    towers = Towers({"a": Vectors()}, [PAIR], Head(dim=4))
    momentum = Memory(towers).towers
    assert momentum is not None
    assert {name.partition(".")[0] for name, _ in momentum.named_parameters()} == {"encoders", "heads"}
    model = Model(towers)
    cells = [row["a"] for row in rows(6)]
    before = model.embed(a=cells)
    torch.nn.init.zeros_(towers.objectives["a-a"].predictor[-1].weight)  # type: ignore[index, union-attr]
    assert torch.equal(model.embed(a=cells), before)
    loaded = load(model.save(tmp_path / "model"), device="cpu")
    assert loaded.towers.pairs == [PAIR]
    assert torch.equal(loaded.embed(a=cells), before)
    mine, theirs = towers.state_dict(), loaded.towers.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_chunks_and_two_ranks_learn_what_one_process_does() -> None:
    alone, data = predicted(rows(40), None), rows(40)
    assert any("predictor" in name for name in alone)
    others = [predicted(data, 4), *run_ranks(predicted, 2, data, None), *run_ranks(predicted, 2, data, 2)]
    for other in others:
        assert other.keys() == alone.keys()
        for name, values in alone.items():
            torch.testing.assert_close(torch.tensor(other[name]), torch.tensor(values), rtol=1e-3, atol=2e-5, msg=name)


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="keys='momentum'"):
        replace(PAIR, keys="online")
    with pytest.raises(InputError, match="use InfoNCE"):
        Predicted(NTXent())
    with pytest.raises(InputError, match="hidden must be 1 or more, got 0"):
        Predicted(InfoNCE(), hidden=0)


def test_a_module_whose_keys_would_ask_too_is_refused() -> None:
    with pytest.raises(InputError, match=r"is for a's rows only: give Context\(both=False\)"):
        Predicted(InfoNCE(), hidden=5).build((6, 4))(view(0, 6), view(1, 4), Context(World()))
