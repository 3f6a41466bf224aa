from __future__ import annotations

import pytest
import torch

from multicl import InfoNCE, InputError
from multicl.distributed import World
from multicl.functional import info_nce, nt_xent
from multicl.types import Context, Embedded


def embedded(n: int, d: int = 4, seed: int = 0, ids: list[int] | None = None) -> Embedded:
    g = torch.Generator().manual_seed(seed)
    row = torch.arange(n)
    return Embedded(torch.randn(n, d, generator=g), row, row + 100 if ids is None else torch.tensor(ids))


def test_two_nodes_give_clip_s_loss() -> None:
    a, b = embedded(6), embedded(6, seed=1)
    values = InfoNCE(0.2).build((4, 4))(a, b, Context(World()))
    torch.testing.assert_close(values["loss"], info_nce(a.z, b.z, 0.2))
    assert values["temperature"].item() == pytest.approx(0.2)
    assert 0 < values["confidence"] < 1
    assert InfoNCE(0.2).build((4, 4))(a, b, Context(World(), told=False)) == {"loss": values["loss"]}


def test_one_direction() -> None:
    a, b = embedded(6), embedded(6, seed=1)
    values = InfoNCE(0.2, both_directions=False).build((4, 4))(a, b, Context(World()))
    torch.testing.assert_close(values["loss"], info_nce(a.z, b.z, 0.2, both_directions=False))


def test_one_node_gives_nt_xent() -> None:
    a, b = embedded(6), embedded(6, seed=1)
    values = InfoNCE(0.5).build((4, 4))(a, b, Context(World(), symmetric=True))
    torch.testing.assert_close(values["loss"], nt_xent(a.z, b.z, 0.5))


def test_labels_as_ids_give_sup_con_s_outer_form() -> None:
    a, b = embedded(4, ids=[7, 7, 8, 9]), embedded(4, seed=1, ids=[7, 7, 8, 9])
    loss = InfoNCE(0.3).build((4, 4))(a, b, Context(World(), symmetric=True))["loss"]
    z = torch.nn.functional.normalize(torch.cat([a.z, b.z]), dim=1).double()
    label = torch.cat([a.id, b.id])
    logits, terms = z @ z.T / 0.3, []
    for i in range(8):
        others = [j for j in range(8) if j != i]
        positives = [j for j in others if label[j] == label[i]]
        below = torch.logsumexp(logits[i, others], 0)
        terms.append(-sum(logits[i, p] - below for p in positives) / len(positives))
    assert loss.item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-5)


def test_equal_ids_may_be_ignored() -> None:
    a, b = embedded(3, ids=[7, 7, 8]), embedded(3, seed=1, ids=[7, 7, 8])
    loss = InfoNCE(0.3, both_directions=False).build((4, 4))(a, b, Context(World(), equal_ids="ignore"))["loss"]
    za, zb = (torch.nn.functional.normalize(x.z, dim=1) for x in (a, b))
    logits = za @ zb.T / 0.3
    logits[0, 1] = logits[1, 0] = -torch.inf
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, torch.arange(3)))


def test_a_learnable_temperature_has_a_gradient_and_a_floor() -> None:
    module = InfoNCE(0.07, learnable=True).build((4, 4))
    loss = module(embedded(5), embedded(5, seed=1), Context(World()))["loss"]
    (slope,) = torch.autograd.grad(loss, list(module.parameters()))
    assert slope.shape == (1,)
    assert slope.item() != 0
    with torch.no_grad():
        next(module.parameters()).fill_(9.0)  # a scale of 8103
    assert module(embedded(5), embedded(5), Context(World()))["temperature"].item() == pytest.approx(0.01)


def test_a_fixed_temperature_is_no_parameter() -> None:
    assert not list(InfoNCE(0.5).build((4, 4)).parameters())


def test_no_rows_at_all_give_zero() -> None:
    module = InfoNCE().build((4, 4))
    none = Embedded(
        torch.zeros(0, 4, requires_grad=True), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    )
    assert module(none, none, Context(World()))["loss"].item() == 0
    assert module(none, none, Context(World(), symmetric=True))["loss"].item() == 0


def test_settings_that_cannot_work() -> None:
    with pytest.raises(InputError, match="above 0, got 0"):
        InfoNCE(0)
    with pytest.raises(InputError, match="one width, got 4 and 5"):
        InfoNCE().build((4, 5))
