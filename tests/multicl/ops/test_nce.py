"""NCE and soft-max over drawn slots against the papers' formulas, written out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torch.utils._python_dispatch import TorchDispatchMode

from multicl.ops import nce as module
from multicl.ops.nce import mean_exp, nce


def slow(a: Tensor, bank: Tensor, own: Tensor, drawn: Tensor, scale: float, z: float | None) -> Tensor:
    """The definition, a row at a time, with the probabilities themselves."""
    losses = []
    share = drawn.shape[1] / len(bank)  # K / N
    for i in range(len(a)):
        logits = scale * (bank[[int(own[i]), *drawn[i].tolist()]] @ a[i])
        if z is None:
            losses.append(cross_entropy(logits[None], torch.tensor([0])))
            continue
        p = logits.exp() / z
        losses.append(-(p[0] / (p[0] + share)).log() - (share / (p[1:] + share)).log().sum())
    return torch.stack(losses) if losses else a.sum(1)


def inputs(n: int, slots: int, count: int, dim: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    a, bank = (normalize(torch.randn(k, dim, dtype=torch.float64, generator=g), dim=1) for k in (n, slots))
    own = torch.randint(slots, (n,), generator=g)
    return a.requires_grad_(), bank, own, torch.randint(slots, (n, count), generator=g)


def log_norm(z: float | None, bank: Tensor) -> float | None:
    return None if z is None else math.log(z / len(bank))


def test_a_case_by_hand() -> None:
    """Logits 1 of the own slot and 0 of the other, N = 2, K = 1, Z = 2: p = e / 2, q = 1 / 2, K / N = 1 / 2."""
    bank = torch.eye(2, dtype=torch.float64)
    own, drawn = torch.tensor([0]), torch.tensor([[1]])
    loss, sure = nce(bank[:1], bank, own, drawn.__getitem__, 1.0, math.log(2 / 2))
    assert loss.item() == pytest.approx(-math.log(math.e / (math.e + 1)) - math.log(1 / 2))
    assert sure.item() == pytest.approx(math.e / (math.e + 1))
    loss, sure = nce(bank[:1], bank, own, drawn.__getitem__, 1.0, None)
    assert loss.item() == pytest.approx(-math.log(math.e / (math.e + 1)))
    assert sure.item() == pytest.approx(math.e / (math.e + 1))


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(0, 7),
    slots=st.integers(1, 9),
    count=st.integers(1, 6),
    seed=st.integers(0, 99),
    z=st.sampled_from([None, 0.7, 30.0]),
    dense=st.booleans(),
    room=st.integers(1, 60),
)
def test_value_and_gradient_are_the_definition_s_in_any_pieces(
    n: int, slots: int, count: int, seed: int, z: float | None, dense: bool, room: int
) -> None:
    a, bank, own, drawn = inputs(n, slots, count, seed=seed)
    weights = torch.rand(n, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "elements", lambda device: room)
        patch.setattr(module, "DENSE", 100 if dense else 0)
        found, sure = nce(a, bank, own, drawn.__getitem__, 2.3, log_norm(z, bank))
        mean = mean_exp(a.detach(), bank, drawn.__getitem__, 2.3)
    wanted = slow(a, bank, own, drawn, 2.3, z)
    torch.testing.assert_close(found, wanted if n else found)
    torch.testing.assert_close(mean, (2.3 * (bank[drawn] * a.detach()[:, None]).sum(2)).exp().mean(1))
    assert not sure.requires_grad
    assert ((sure > 0) & (sure < 1)).all()
    if n:
        (got,) = torch.autograd.grad((weights * found).sum(), a)
        (right,) = torch.autograd.grad((weights * wanted).sum(), a)
        torch.testing.assert_close(got, right)


@pytest.mark.parametrize("z", [None, 3.0])
@pytest.mark.parametrize("dense", [0, 100])
def test_gradients_are_those_of_finite_differences(
    z: float | None, dense: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DENSE", dense)
    a, bank, own, drawn = inputs(4, 6, 5)
    assert torch.autograd.gradcheck(lambda x: nce(x, bank, own, drawn.__getitem__, 2.0, log_norm(z, bank))[0], a)


@pytest.mark.parametrize("z", [None, 4000.0])
@pytest.mark.parametrize("dense", [0, 100])
def test_extreme_logits_stay_finite_and_exact(z: float | None, dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DENSE", dense)
    a, bank, own, drawn = inputs(6, 8, 4)
    found, _ = nce(a.float(), bank.float(), own, drawn.__getitem__, 100.0, log_norm(z, bank))
    wanted = slow(a, bank, own, drawn, 100.0, z)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-5)
    (got,) = torch.autograd.grad(found.sum(), a)
    (right,) = torch.autograd.grad(wanted.sum(), a)
    torch.testing.assert_close(got, right, rtol=1e-3, atol=1e-3)  # of 100s


class Largest(TorchDispatchMode):
    """Watches how large a tensor is made."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else [out]:
            if isinstance(x, Tensor):
                self.elements = max(self.elements, x.numel())
        return out


@pytest.mark.parametrize("dense", [0, 1000])
def test_the_drawn_vectors_are_never_there_at_once(dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    n, slots, count, dim, room = 200, 500, 64, 16, 20_000
    monkeypatch.setattr(module, "elements", lambda device: room)
    monkeypatch.setattr(module, "DENSE", dense)
    a, bank, own, drawn = inputs(n, slots, count, dim)
    with Largest() as largest:
        loss, _ = nce(a, bank, own, drawn.__getitem__, 10.0, 1.0)
        torch.autograd.grad(loss.sum(), a)
    assert n * dim <= largest.elements <= room < n * count * dim / 10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_sums_are_float32_also_under_autocast(dtype: torch.dtype) -> None:
    a, bank, own, drawn = inputs(6, 8, 4)
    a, bank = a.detach().to(dtype), bank.to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = nce(a, bank, own, drawn.__getitem__, 14.0, 1.0)
    assert loss.dtype == torch.float32
    wanted, _ = nce(a.double(), bank.double(), own, drawn.__getitem__, 14.0, 1.0)
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-5, atol=1e-5)


def test_it_is_not_differentiated_twice_and_makes_no_gradient_unasked() -> None:
    a, bank, own, drawn = inputs(3, 5, 4)
    loss, _ = nce(a, bank, own, drawn.__getitem__, 2.0, 0.1)
    (grad,) = torch.autograd.grad(loss.sum(), a, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated again: it is computed in forward"):
        grad.sum().backward()
    with torch.no_grad():
        assert not nce(a, bank, own, drawn.__getitem__, 2.0, 0.1)[0].requires_grad
