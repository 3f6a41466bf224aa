"""Several widths: the mean of the objective's losses on vectors that were cut by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import Vectors

from multicl import Head, InfoNCE, InputError, Margin, Matryoshka, Model, NTXent, Pair, SupCon, SwAV, load
from multicl.distributed import World
from multicl.towers import Towers
from multicl.types import Context, Embedded, Extra, Objective


def view(seed: int, rows: int = 5) -> Embedded:
    z = torch.randn(rows, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    return Embedded(z, torch.arange(rows), torch.tensor([0, 0, 1, 2, 3]))


def extra(seed: int) -> Extra:
    return Extra(view(seed).z, torch.arange(5) + 10, torch.arange(5) + 10, "negative")


@pytest.mark.parametrize(
    ("objective", "context"),
    [
        (InfoNCE(0.2, learnable=True), Context(World())),
        (InfoNCE(0.2, both_directions=False), Context(World(), extra_a=(extra(3),), extra_b=(extra(4),))),
        (SupCon(0.3), Context(World(), symmetric=True)),
        (Margin(2.0), Context(World())),
    ],
)
def test_is_the_mean_of_losses_of_cut_vectors(objective: Objective, context: Context) -> None:
    a, b = view(0), view(1)
    module = Matryoshka(objective, dims=(2, 3)).build((6, 6))
    found = module(a, b, context)
    wanted: list[Any] = []
    for width in (2, 3, 6):
        cut = [replace(v, z=v.z[:, :width]) for v in (a, b)]
        more: dict[str, Any] = {
            side: tuple(replace(e, z=e.z[:, :width]) for e in getattr(context, side)) for side in ("extra_a", "extra_b")
        }
        wanted.append(objective.build((width, width))(*cut, replace(context, **more))["loss"])
    torch.testing.assert_close(found["loss"], sum(wanted) / 3)
    assert [found[f"loss_{width}"].item() for width in (2, 3, 6)] == pytest.approx([w.item() for w in wanted])
    for got, right in zip(
        torch.autograd.grad(found["loss"], [a.z, b.z]), torch.autograd.grad(sum(wanted) / 3, [a.z, b.z]), strict=True
    ):
        torch.testing.assert_close(got, right)


def test_directions_are_the_objectives() -> None:
    assert Matryoshka(InfoNCE(), dims=(2,)).both_directions
    assert not Matryoshka(InfoNCE(both_directions=False), dims=(2,)).both_directions


def test_it_is_saved_with_what_it_holds(tmp_path: Path) -> None:
    objective = Matryoshka(InfoNCE(0.2, learnable=True), dims=(2, 3))
    model = Model(Towers({"a": Vectors(), "b": Vectors()}, [Pair("a", "b", objective)], Head(dim=6)))
    model.save(tmp_path / "m")
    again = load(tmp_path / "m", device="cpu")
    assert again.towers.terms == model.towers.terms
    names = [name for name, _ in again.towers.objectives.named_parameters()]
    assert len(names) == 3  # a temperature a width


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Matryoshka(InfoNCE(), dims=()), r"different widths, 1 or more, got \(\)"),
        (lambda: Matryoshka(InfoNCE(), dims=(0, 2)), r"got \(0, 2\)"),
        (lambda: Matryoshka(InfoNCE(), dims=(2, 2)), r"got \(2, 2\)"),
        (lambda: Matryoshka(InfoNCE(), dims=(6,)).build((6, 6)), "smaller than the embedding's width 6"),
        (lambda: Matryoshka(InfoNCE(), dims=(2,)).build((6, 5)), "Matryoshka compares vectors of one width"),
        (lambda: Matryoshka(NTXent(), dims=(2,)), "cannot wrap NTXent: use InfoNCE"),
        (lambda: Matryoshka(SwAV(), dims=(2,)), "cannot wrap SwAV"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
