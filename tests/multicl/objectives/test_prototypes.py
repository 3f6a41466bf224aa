"""SwAV against its pseudo-code; test_over_ranks.py has its gradients over ranks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from multicl import InputError, SwAV
from multicl.distributed import World
from multicl.objectives.clusters import sinkhorn
from multicl.types import Context, Embedded, Extra

SMALL = SwAV(7, frozen_steps=0)
ROW = torch.tensor([5, 3, 9, 1, 8])


def view(seed: int, rows: int = 5) -> Embedded:
    z = torch.randn(rows, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    return Embedded(z, ROW[:rows], ROW[:rows])


def built(how: SwAV = SMALL) -> Any:
    torch.manual_seed(3)
    module = how.build((4, 4)).double()
    with torch.no_grad():
        module.prototypes.mul_(1 + torch.arange(len(module.prototypes))[:, None])  # lengths must not matter
    return module


def codes(z: Tensor, c: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Algorithm 1 of arXiv:2006.09882, its function sinkhorn."""
    q = torch.exp(rows(z.detach()) @ rows(c.detach()).T / epsilon).T
    q = q / q.sum()
    k, b = q.shape
    r, col = torch.ones(k).double() / k, torch.ones(b).double() / b
    for _ in range(iterations):
        u = q.sum(1)
        q = q * (r / u)[:, None]
        q = q * (col / q.sum(0))[None]
    return (q / q.sum(0, keepdim=True)).T


def rows(z: Tensor) -> Tensor:
    return z / z.norm(dim=1, keepdim=True)


def predicted(z: Tensor, q: Tensor, c: Tensor, temperature: float = 0.1) -> Tensor:
    return -(q * torch.log_softmax(rows(z) @ rows(c).T / temperature, 1)).sum(1).mean()


def close(module: Any, a: Embedded, b: Embedded, context: Context, wanted: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = module(a, b, context)
    torch.testing.assert_close(found["loss"], wanted)
    leaves = [a.z, b.z, module.prototypes]
    grads = (torch.autograd.grad(loss, leaves, materialize_grads=True) for loss in (found["loss"], wanted))
    for got, right in zip(*grads, strict=True):
        torch.testing.assert_close(got, right)
    return found


def test_two_whole_views_predict_each_others_codes() -> None:
    module, a, b = built(), view(0), view(1)
    c = module.prototypes
    for symmetric in (True, False):
        wanted = (predicted(a.z, codes(b.z, c), c) + predicted(b.z, codes(a.z, c), c)) / 2
        close(module, a, b, Context(World(), symmetric=symmetric), wanted)
    other = built(SwAV(7, temperature=0.3, epsilon=0.2, iterations=2, frozen_steps=0))
    c = other.prototypes
    q, p = (codes(x.z, c, 0.2, 2) for x in (a, b))
    close(other, a, b, Context(World()), (predicted(a.z, p, c, 0.3) + predicted(b.z, q, c, 0.3)) / 2)


def test_a_small_view_predicts_a_whole_ones_codes_which_get_no_gradient() -> None:
    module, a, b = built(), view(0), view(1)
    c = module.prototypes
    close(module, a, b, Context(World(), both=False), predicted(a.z, codes(b.z, c), c))


def test_rows_that_one_side_lacks_are_left_out_and_order_does_not_matter() -> None:
    module, a, b = built(), view(0), view(1)
    order = torch.tensor([3, 0, 1])
    lacking = Embedded(b.z[order], b.row[order], b.id[order])
    c, kept = module.prototypes, torch.tensor([0, 1, 3])
    close(module, a, lacking, Context(World(), both=False), predicted(a.z[kept], codes(b.z[kept], c), c))


def test_a_queues_keys_are_clustered_with_the_rows() -> None:
    module, a, b = built(), view(0), view(1)
    c = module.prototypes
    of_b, of_a = (Extra(view(seed, 4).z.detach(), ROW[:4], ROW[:4]) for seed in (2, 3))
    q, p = (codes(torch.cat([x.z, extra.z]), c)[:5] for x, extra in ((b, of_b), (a, of_a)))
    wanted = (predicted(a.z, q, c) + predicted(b.z, p, c)) / 2
    close(module, a, b, Context(World(), extra_a=(of_b,), extra_b=(of_a,)), wanted)
    assert not torch.allclose(p, codes(a.z, c))
    with pytest.raises(InputError, match="SwAV takes no explicit negatives"):
        module(a, b, Context(World(), extra_a=(replace(of_b, same_row="negative"),)))


def test_the_gradient_is_that_of_finite_differences_with_codes_held() -> None:
    module, a, b = built(), view(0), view(1)

    def loss(z: Tensor, prototypes: Tensor) -> Tensor:
        q = sinkhorn(rows(b.z) @ rows(module.prototypes).T / 0.05, 3, World())
        return predicted(z, q.detach(), prototypes)

    held = module.prototypes.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(loss, (a.z, held))
    close(module, a, b, Context(World(), both=False), loss(a.z, module.prototypes))


def test_prototypes_are_frozen_for_the_first_steps() -> None:
    module, a, b = built(SwAV(7, frozen_steps=2)), view(0), view(1)
    for step, moves in ((0, False), (1, False), (2, True)):
        loss = module(a, b, Context(World(), step=step))["loss"]
        grads = torch.autograd.grad(loss, [module.prototypes, a.z], materialize_grads=True)
        assert [bool(g.abs().sum() > 0) for g in grads] == [moves, True]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(2, 30), st.floats(0.01, 2), st.integers(0, 99))
def test_codes_sum_to_one_and_spread_evenly(n: int, k: int, epsilon: float, seed: int) -> None:
    scores = 2 * torch.rand(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1
    found = [sinkhorn(scores / epsilon, iterations, World()) for iterations in (1, 3, 2000)]
    for q in found:
        assert torch.allclose(q.sum(1), torch.ones(n).double())
        assert (q >= 0).all()
    uneven = [(q.sum(0) - n / k).abs().sum() for q in found]
    assert uneven == sorted(uneven, reverse=True) or max(uneven) < 1e-9
    if epsilon > 0.1:  # as sharp as one prototype for a row, evenness comes slowly
        assert torch.allclose(found[-1].sum(0), torch.full((k,), n / k).double(), rtol=0.02)


def test_scores_of_any_size() -> None:
    scores = torch.tensor([[500.0, -500.0], [490.0, -500.0], [0.0, 0.0]])  # exp gives inf and 0
    torch.testing.assert_close(sinkhorn(scores, 3, World()).sum(1), torch.ones(3))


def test_how_many_prototypes_are_used() -> None:
    module = built()
    with torch.no_grad():
        module.prototypes.copy_(torch.eye(7, 4) + 1e-3)
    same = Embedded(torch.eye(4).double()[:1].expand(5, 4), ROW, ROW)
    assert module(same, same, Context(World()))["prototypes_used"].item() < 1.2
    spread = Embedded(torch.eye(4).double(), ROW[:4], ROW[:4])
    assert 3.9 < module(spread, spread, Context(World()))["prototypes_used"].item() < 4.4
    nobody = view(0)[torch.zeros(5, dtype=torch.bool)]
    assert module(nobody, nobody, Context(World()))["loss"].item() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prototypes": 1}, "SwAV: prototypes must be 2 or more, got 1"),
        ({"iterations": 0}, "SwAV: iterations must be 1 or more, got 0"),
        ({"frozen_steps": -1}, "SwAV: frozen_steps must be 0 or more, got -1"),
        ({"temperature": 0.0}, "SwAV: temperature must be above 0, got 0"),
        ({"epsilon": float("nan")}, "SwAV: epsilon must be above 0, got nan"),
    ],
)
def test_settings_that_cannot_work(options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SwAV(**options)


def test_sides_of_two_widths() -> None:
    with pytest.raises(InputError, match="SwAV compares vectors of one width, got 4 and 5"):
        SwAV().build((4, 5))


def test_scores_are_those_of_the_rows_type_also_under_autocast() -> None:
    module, a, b = built(), view(0), view(1)
    wanted = module(a, b, Context(World()))["loss"]
    plain = SMALL.build((4, 4))  # a float32 module, float64 rows
    plain.load_state_dict(module.state_dict())
    torch.testing.assert_close(plain(a, b, Context(World()))["loss"], wanted, rtol=1e-6, atol=0)
    low = (Embedded(x.z.detach().float(), x.row, x.id) for x in (a, b))
    with torch.autocast("cpu", torch.bfloat16):
        found = plain(*low, Context(World()))["loss"]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=0)
