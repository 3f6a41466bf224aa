from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multicl import functional
from multicl.types import InputError


def slow_nt_xent(z1: torch.Tensor, z2: torch.Tensor, temperature: float) -> float:
    """SimCLR's equation 1, term by term."""
    z = [v / v.norm() for v in torch.cat([z1, z2])]
    n, terms = len(z1), []
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        below = sum(math.exp(float(z[i] @ z[k]) / temperature) for k in range(2 * n) if k != i)
        terms.append(-math.log(math.exp(float(z[i] @ z[partner]) / temperature) / below))
    return sum(terms) / len(terms)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 9), d=st.integers(2, 6), temperature=st.floats(0.1, 5), seed=st.integers(0, 50))
def test_nt_xent_is_equation_1(n: int, d: int, temperature: float, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    z1, z2 = (torch.randn(n, d, dtype=torch.float64, generator=g) for _ in range(2))
    assert functional.nt_xent(z1, z2, temperature).item() == pytest.approx(slow_nt_xent(z1, z2, temperature), abs=1e-9)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_info_nce_is_cross_entropy_in_both_directions(similarity: str) -> None:
    a, b = (torch.randn(6, 4, dtype=torch.float64) for _ in range(2))
    u, v = (torch.nn.functional.normalize(x, dim=1) for x in (a, b)) if similarity == "cosine" else (a, b)
    logits, target = u @ v.T / 0.2, torch.arange(6)
    there, back = (torch.nn.functional.cross_entropy(m, target) for m in (logits, logits.T))
    loss = functional.info_nce(a, b, 0.2, similarity=similarity)  # type: ignore[arg-type]
    torch.testing.assert_close(loss, (there + back) / 2)
    one_way = functional.info_nce(a, b, 0.2, both_directions=False, similarity=similarity)  # type: ignore[arg-type]
    torch.testing.assert_close(one_way, there)


def test_extra_keys_are_negatives_of_a() -> None:
    a, b, keys = (torch.nn.functional.normalize(torch.randn(n, 4, dtype=torch.float64), dim=1) for n in (5, 5, 3))
    logits = torch.cat([a @ b.T, a @ keys.T], 1) / 0.1
    wanted = torch.nn.functional.cross_entropy(logits, torch.arange(5))
    torch.testing.assert_close(functional.info_nce(a, b, 0.1, both_directions=False, extra_keys=keys), wanted)


def test_gradients_of_inputs_and_temperature() -> None:
    a, b = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    temperature = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(functional.nt_xent, (a, b, temperature))
    assert torch.autograd.gradcheck(functional.info_nce, (a, b, temperature))


def test_a_zero_vector_has_cosine_zero_and_no_gradient() -> None:
    a, b = torch.randn(3, 4), torch.randn(3, 4)
    a[1] = 0
    a.requires_grad_()
    loss = functional.info_nce(a, b)
    (grad,) = torch.autograd.grad(loss, a)
    assert torch.isfinite(loss)
    assert torch.isfinite(grad).all()
    assert grad[1].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_any_float_type(dtype: torch.dtype) -> None:
    loss = functional.nt_xent(torch.randn(4, 3).to(dtype), torch.randn(4, 3).to(dtype))
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_one_row_of_two_views_has_no_negative() -> None:
    z = torch.randn(1, 4)
    assert functional.nt_xent(z, z).item() == pytest.approx(0)


@pytest.mark.parametrize(
    ("a", "b", "temperature", "words"),
    [
        (torch.zeros(3, 2), torch.zeros(4, 2), 0.1, r"\[3, 2\] and \[4, 2\]"),
        (torch.zeros(3), torch.zeros(3), 0.1, r"\[3\] and \[3\]"),
        (torch.zeros(3, 2), torch.zeros(3, 2), 0.0, "above 0, got 0.0"),
    ],
)
def test_wrong_input_is_named(a: torch.Tensor, b: torch.Tensor, temperature: float, words: str) -> None:
    with pytest.raises(InputError, match=words):
        functional.info_nce(a, b, temperature)
