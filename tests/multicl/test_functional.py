from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pandas
import pytest
import slow
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from multicl import functional
from multicl.types import InputError

NAMES = ("nt_xent", "info_nce", "sup_con", "sigmoid_loss", "hard_negative", "decoupled")
"""The functions of similarities; margin_contrastive has tests of its own."""


def draw(n: int, d: int, seed: int, noise: float) -> tuple[Tensor, Tensor]:
    """Two views [n, d], float32: the second is the first with noise."""
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(n, d, generator=g)
    return a, a + noise * torch.randn(n, d, generator=g)


def evaluate(
    module: ModuleType, name: str, a: Tensor, b: Tensor, temperature: float, dtype: torch.dtype, **more: Any
) -> list[Tensor]:
    """[loss, gradients of a, b, the scale 1 / temperature and, of the sigmoid, the bias], all in float64."""
    a, b = (x.to(dtype).requires_grad_() for x in (a, b))
    scale = torch.tensor([1 / temperature]).to(dtype).requires_grad_()
    leaves = [a, b, scale]
    if name == "sigmoid_loss":
        leaves.append(torch.tensor([-4.0], dtype=dtype, requires_grad=True))
        loss = module.sigmoid_loss(a, b, scale, leaves[-1], **more)
    elif name == "sup_con":
        labels = [i % 4 - 1 for i in range(2 * len(a))]
        loss = module.sup_con(torch.cat([a, b]), labels, 1 / scale, **more)
    else:
        loss = getattr(module, name)(a, b, 1 / scale, **more)
    loss *= 1  # in place, as many divide theirs by the steps of an accumulation
    grads = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    return [x.detach().double() for x in (loss, *grads)]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(1, 9),
    d=st.integers(2, 6),
    log_temperature=st.floats(-2, 1),
    seed=st.integers(0, 99),
    cosine=st.booleans(),
)
def test_in_float64_values_and_gradients_are_the_papers(
    name: str, n: int, d: int, log_temperature: float, seed: int, cosine: bool
) -> None:
    temperature = 10**log_temperature
    if not cosine:
        temperature = max(temperature, 0.2)  # the references' exp overflows
    views = draw(n, d, seed, 0.5)
    wanted = evaluate(slow, name, *views, temperature, torch.float64, cosine=cosine)
    similarity = "cosine" if cosine else "dot"
    found = evaluate(functional, name, *views, temperature, torch.float64, similarity=similarity)
    for got, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, right, rtol=1e-7, atol=1e-9)


def assert_exact(found: list[Tensor], wanted: list[Tensor], scale: float, n: int, slack: float = 1) -> None:
    """To 1e-5 of each tensor's norm; where the loss is below 0.1, absolutely: 1e-5, and 1e-5 * scale / n of gradients.

    The gradients of scale and bias are sums of terms of both signs, each at most 1 in size: of 0.1 at least.
    """
    small = wanted[0].abs() < 0.1
    for k, (got, right) in enumerate(zip(found, wanted, strict=True)):
        least = 0.1 if k > 2 else 0.0
        limit = 1e-5 * max(right.norm().item(), least)
        if small:
            limit = 1e-5 if k == 0 else max(1e-5 * scale / n, 1e-6 if k > 2 else 0)
        assert (got - right).norm().item() <= slack * limit, (k, got, right)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    n=st.sampled_from([1, 2, 3, 7, 16, 33]),
    d=st.sampled_from([2, 3, 17, 128, 1024]),
    log_temperature=st.floats(-2, 1),
    noise=st.sampled_from([0.05, 0.5, 2.0, 100.0]),
    seed=st.integers(0, 99),
)
def test_float32_is_exact(name: str, n: int, d: int, log_temperature: float, noise: float, seed: int) -> None:
    if name == "sigmoid_loss":  # the gradient of a lone parallel pair is beyond float32's reach, at any loss
        noise = max(noise, 0.5)
    views, temperature = draw(n, d, seed, noise), 10**log_temperature
    found = evaluate(functional, name, *views, temperature, torch.float32)
    wanted = evaluate(slow, name, *views, temperature, torch.float64)
    slack = 4 if name == "hard_negative" else 1  # a difference of two sums
    assert_exact(found, wanted, 1 / temperature, n, slack)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", ["row", "column"])
def test_a_scale_of_100_and_a_best_cosine_of_minus_0_9(name: str, side: str) -> None:
    a, b = (torch.tensor([1.0, 0, 0]) + 0.02 * x for x in draw(12, 3, 0, 0.5))
    a[4] = torch.tensor([-0.9, math.sqrt(1 - 0.9**2), 0])
    best = (slow.units(a) @ slow.units(b).T).max(1).values
    assert best[4] == pytest.approx(-0.9, abs=0.03)  # exp(-190) beside the others' 1
    assert best.sort().values[1] > 0.99
    if side == "column":
        a, b = b, a
    found = evaluate(functional, name, a, b, 0.01, torch.float32)
    assert_exact(found, evaluate(slow, name, a, b, 0.01, torch.float64), 100, 12, 4 if name == "hard_negative" else 1)


@pytest.mark.parametrize("name", [*NAMES, "margin_contrastive"])
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    a, b = (x.double().requires_grad_() for x in draw(4, 3, 3, 1.0))
    number = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)

    def of(a: Tensor, b: Tensor, number: Tensor) -> Tensor:
        if name == "sup_con":
            return functional.sup_con(torch.cat([a, b]), [0, 1, -1, 0, 2, 2, 0, -1], number)
        if name == "sigmoid_loss":
            return functional.sigmoid_loss(a, b, 1 / number, -number)
        if name == "margin_contrastive":
            return functional.margin_contrastive(a, b, torch.tensor([True, False, False, True]), 5.0)
        return getattr(functional, name)(a, b, number)

    wanted = (a, b) if name == "margin_contrastive" else (a, b, number)
    assert torch.autograd.gradcheck(lambda *x: of(*x, *((number,) if len(x) == 2 else ())), wanted)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("zeros", [[1], [0, 1, 2, 3, 4]])
def test_a_zero_vector_has_cosine_zero_and_no_gradient(name: str, zeros: list[int]) -> None:
    a, b = draw(5, 4, 1, 1.0)
    a[zeros] = 0
    found = evaluate(functional, name, a, b, 0.1, torch.float32)
    assert all(torch.isfinite(x).all() for x in found)
    assert found[1][zeros].abs().max() == 0
    assert_exact(found, evaluate(slow, name, a, b, 0.1, torch.float64), 10, 5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_any_float_type_is_summed_in_float32_or_better(name: str, dtype: torch.dtype, similarity: str) -> None:
    a, b = (x.to(dtype) for x in draw(6, 3, 2, 0.3))
    with torch.autocast("cpu", torch.bfloat16):
        found = _plain(name, a, b, similarity)
    wanted = _plain(name, a.double(), b.double(), similarity)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)


def _plain(name: str, a: Tensor, b: Tensor, similarity: Any) -> Tensor:
    if name == "sup_con":
        return functional.sup_con(a, [0, 0, 1, 1, 1, -1], 0.07, similarity=similarity)
    if name == "sigmoid_loss":
        return functional.sigmoid_loss(a, b, 14.3, -10.0, similarity=similarity)
    return getattr(functional, name)(a, b, 0.07, similarity=similarity)


@pytest.mark.parametrize("name", NAMES)
def test_a_temperature_of_any_shape_and_type_has_a_gradient(name: str) -> None:
    a, b = draw(5, 3, 0, 0.5)
    grads = []
    for number in (torch.tensor(0.5), torch.tensor([0.5]), torch.tensor([[0.5]], dtype=torch.bfloat16)):
        leaf = number.requires_grad_()
        if name == "sup_con":
            loss = functional.sup_con(a, [0, 0, 1, 1, 1], leaf)
        elif name == "sigmoid_loss":
            loss = functional.sigmoid_loss(a, b, leaf, -1)
        else:
            loss = getattr(functional, name)(a, b, leaf)
        (grad,) = torch.autograd.grad(loss, leaf)
        assert grad.shape == number.shape
        grads.append(grad.float().item())
    assert grads[0] != 0
    assert grads == pytest.approx([grads[0]] * 3, rel=1e-2)


# The worked checks.


def test_parallel_vectors_have_cosine_1() -> None:
    a, b = torch.tensor([[1.0, 2.0, 3.0], [3.0, 0.0, -1.0]]), torch.tensor([[2.0, 4.0, 6.0], [0.0, 1.0, 0.0]])
    # cosines [[1, 2 / sqrt 14], [0, 0]], so row 0's loss is log(e + e^(2 / sqrt 14)) - 1
    wanted = (math.log(math.e + math.exp(2 / math.sqrt(14))) - 1 + math.log(2)) / 2
    assert functional.info_nce(a, b, 1.0, both_directions=False).item() == pytest.approx(wanted, rel=1e-6)
    apart = functional.margin_contrastive(slow.units(a[:1]), slow.units(b[:1]), torch.tensor([True]))
    assert apart.item() == pytest.approx(0, abs=1e-12)


def test_two_of_four_vectors_are_a_pair_and_two_belong_to_nobody() -> None:
    z, temperature = torch.randn(4, 6, dtype=torch.float64), 0.3
    cos = (slow.units(z) @ slow.units(z).T).tolist()
    e = [[math.exp(c / temperature) for c in row] for row in cos]
    first = -math.log(e[0][1] / (e[0][1] + e[0][2] + e[0][3]))
    second = -math.log(e[1][0] / (e[1][0] + e[1][2] + e[1][3]))
    loss = functional.sup_con(z, [0, 0, -1, -1], temperature)
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-12)


def test_sup_con_of_two_views_a_label_is_nt_xent() -> None:
    z1, z2 = draw(6, 4, 0, 1.0)
    labels = torch.arange(6).repeat(2)
    torch.testing.assert_close(functional.sup_con(torch.cat([z1, z2]), labels, 0.5), functional.nt_xent(z1, z2, 0.5))


@pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8])
def test_labels_of_any_whole_type(kind: torch.dtype) -> None:
    z, labels = draw(4, 3, 0, 0.5)[0], [0, 1, 1, 0]
    found = functional.sup_con(z, torch.tensor(labels).to(kind))
    torch.testing.assert_close(found, functional.sup_con(z, labels))


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize(("n", "x"), [(7, 9), (1, 3), (4, 0), (0, 2), (70, 300)])
def test_sup_con_with_a_memory_of_labelled_vectors(n: int, x: int, similarity: Any) -> None:
    g = torch.Generator().manual_seed(n)
    z, keys = (torch.randn(rows, 4, dtype=torch.float64, generator=g).requires_grad_() for rows in (n, x))
    labels, key_labels = [i % 4 - 1 for i in range(n)], [i % 6 - 1 for i in range(x)]
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    found = functional.sup_con(z, labels, temperature, keys, key_labels, similarity=similarity)
    wanted = slow.sup_con_memory(z, labels, temperature, keys, key_labels, similarity == "cosine")
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    leaves = (z, keys, temperature)
    for got, right in zip(
        torch.autograd.grad(found, leaves, allow_unused=True, materialize_grads=True),
        torch.autograd.grad(wanted, leaves, allow_unused=True, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(got, right, rtol=1e-8, atol=1e-11)
    if n == 7:
        arguments = labels, key_labels
        assert torch.autograd.gradcheck(
            lambda z, keys, t: functional.sup_con(z, arguments[0], t, keys, arguments[1], similarity=similarity), leaves
        )
    low = functional.sup_con(z.float(), labels, 0.3, keys.float().detach(), key_labels, similarity=similarity)
    torch.testing.assert_close(low.double(), wanted, rtol=1e-5, atol=1e-5)


def test_an_empty_memory_changes_nothing_and_unlabelled_keys_are_nobodys_positives() -> None:
    z, labels = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 0, 1, 1, -1, -(2**40)])
    without = functional.sup_con(z, labels)
    torch.testing.assert_close(functional.sup_con(z, labels, 0.1, z[:0], labels[:0]), without)
    keys = torch.randn(3, 4, dtype=torch.float64)
    found = functional.sup_con(z, labels, 0.1, keys, torch.tensor([-1, -(2**63), -5]))
    torch.testing.assert_close(found, slow.sup_con_memory(z, labels.tolist(), torch.tensor(0.1), keys, [-1] * 3))


def test_sup_con_without_positives_is_zero_with_zero_gradient() -> None:
    z = torch.randn(4, 3, requires_grad=True)
    loss = functional.sup_con(z, [-1, -1, 3, 5])
    assert loss.item() == 0
    assert torch.autograd.grad(loss, z)[0].abs().max() == 0


def test_hard_negatives_without_weights_and_bias_are_nt_xent() -> None:
    z1, z2 = draw(6, 4, 0, 1.0)
    plain = functional.hard_negative(z1, z2, 0.5, beta=0, tau_plus=0)
    torch.testing.assert_close(plain, functional.nt_xent(z1, z2, 0.5))


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 6), beta=st.floats(0, 4), tau_plus=st.floats(0, 0.6), seed=st.integers(0, 99))
def test_hard_negatives_are_the_authors_code(n: int, beta: float, tau_plus: float, seed: int) -> None:
    z1, z2 = (x.double() for x in draw(n, 3, seed, 0.5))
    wanted = slow.hard_negative(z1, z2, torch.tensor(0.4, dtype=torch.float64), beta, tau_plus)
    found = functional.hard_negative(z1, z2, 0.4, beta, tau_plus)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-9)


def test_one_row_has_no_negative() -> None:
    z = torch.randn(1, 4, requires_grad=True)
    for loss in (functional.nt_xent(z, z), functional.decoupled(z, z, 0.1), functional.hard_negative(z, z)):
        assert loss.item() == pytest.approx(0)
        assert torch.autograd.grad(loss, z)[0].abs().max() < 1e-6


@pytest.mark.parametrize("name", [*NAMES, "margin_contrastive"])
def test_no_rows_at_all_give_zero(name: str) -> None:
    z = torch.zeros(0, 4, requires_grad=True)
    more: dict[str, Any] = {
        "sup_con": ([],), "sigmoid_loss": (z, 10, -10), "margin_contrastive": (z, torch.zeros(0, dtype=torch.bool)),
        "decoupled": (z, 0.1),
    }  # fmt: skip
    loss = getattr(functional, name)(z, *more.get(name, (z,)))
    assert loss.item() == 0
    assert torch.autograd.grad(loss, z)[0].shape == (0, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_margin_loss_is_hadsells(dtype: torch.dtype) -> None:
    a, b = (x.to(dtype).requires_grad_() for x in draw(9, 3, 5, 0.4))
    with torch.no_grad():
        b[3] = b[4] = a[3]  # a distance of 0 (row 3), and one beyond the margin
        b[4] += 9
    similar = [i % 2 == 0 for i in range(9)]
    loss = functional.margin_contrastive(a, b, torch.tensor(similar), 1.5)
    found = [loss, *torch.autograd.grad(loss, [a, b])]
    loss = slow.margin_contrastive(a, b, similar, 1.5)
    wanted = [loss, *torch.autograd.grad(loss, [a, b])]
    for got, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, right)
    assert found[1][3].tolist() == [0, 0, 0]


def test_info_nce_one_way_with_extra_keys() -> None:
    a, b, keys = (slow.units(torch.randn(n, 4, dtype=torch.float64)) for n in (5, 5, 3))
    logits = torch.cat([a @ b.T, a @ keys.T], 1) / 0.1
    wanted = torch.nn.functional.cross_entropy(logits, torch.arange(5))
    torch.testing.assert_close(functional.info_nce(a, b, 0.1, both_directions=False, extra_keys=3 * keys), wanted)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_info_nce_against_a_queue_alone_is_mocos(similarity: Any, kind: torch.dtype) -> None:
    q, k, queue = (torch.randn(n, 4).to(kind) for n in (5, 5, 3))
    u, v, w = (x.double() if similarity == "dot" else slow.units(x.double()) for x in (q, k, queue))
    logits = torch.cat([(u * v).sum(1, keepdim=True), u @ w.T], 1) / 0.1
    wanted = torch.nn.functional.cross_entropy(logits, torch.zeros(5, dtype=torch.long))
    loss = functional.info_nce(q, k, 0.1, False, queue, in_batch=False, similarity=similarity)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("extra", [0, 3])
@pytest.mark.parametrize("n", [7, 700])  # within one tile of logits, and beyond
def test_info_nce_with_ids_has_a_positive_in_each_row_of_its_id(both: bool, extra: int, n: int) -> None:
    a, b, keys = (torch.randn(k, 4, dtype=torch.float64, requires_grad=True) for k in (n, n, extra))
    ids = [i % (n // 2) - 1 for i in range(n)]
    same = torch.tensor([[i == j or ids[i] == ids[j] >= 0 for j in range(n)] for i in range(n)]).double()
    logits = slow.units(a) @ slow.units(b).T / 0.1
    to_keys = slow.units(a) @ slow.units(keys).T / 0.1 if extra else a[:, :0]
    there = torch.cat([logits, to_keys], 1).logsumexp(1) - (logits * same).sum(1) / same.sum(1)
    back = logits.logsumexp(0) - (logits * same).sum(0) / same.sum(0)
    wanted = (there.mean() + back.mean()) / 2 if both else there.mean()
    leaves = [a, b, keys] if extra else [a, b]
    loss = functional.info_nce(a, b, 0.1, both, keys if extra else None, ids=ids)
    torch.testing.assert_close(loss, wanted)
    found, right = torch.autograd.grad(loss, leaves), torch.autograd.grad(wanted, leaves)
    for got, expected in zip(found, right, strict=True):
        torch.testing.assert_close(got, expected)


def test_info_nce_of_ids_that_are_all_apart_is_that_without() -> None:
    a, b = draw(6, 4, 0, 0.5)
    for ids in (range(6), [-1] * 6):
        torch.testing.assert_close(functional.info_nce(a, b, 0.1, ids=list(ids)), functional.info_nce(a, b, 0.1))
    with pytest.raises(InputError, match=r"ids must be 6 integers, one a row, got \[2\]"):
        functional.info_nce(a, b, ids=[0, 1])


THREE, FOUR = torch.ones(3, 2), torch.ones(4, 2)


@pytest.mark.parametrize(
    "kind",
    [
        list,
        tuple,
        torch.tensor,
        np.array,
        lambda v: pandas.Series(v, index=range(5, 11)),
        lambda v: np.array(v[::-1])[::-1],
    ],
)
def test_columns_of_every_kind_are_one(kind: Callable[[list[Any]], Any]) -> None:
    a, b = draw(6, 4, 0, 0.5)
    columns = [0, 1, 1, -1, 0, 2], [0.1, 0.5, 0.5, 0.9, 0.0, 0.2], [True, False, True, True, False, False]
    for name, column in zip(("sup_con", "co_sent", "margin_contrastive"), columns, strict=True):
        views = (a,) if name == "sup_con" else (a, b)
        loss = getattr(functional, name)
        assert torch.equal(loss(*views, kind(column)), loss(*views, torch.tensor(column)))


@pytest.mark.parametrize("name", ["sup_con", "co_sent", "margin_contrastive"])
def test_no_rows_have_an_empty_column(name: str) -> None:
    none = torch.zeros(0, 3)
    assert getattr(functional, name)(*((none,) if name == "sup_con" else (none, none)), []) == 0


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("info_nce", (THREE, FOUR, 0.1), r"\[3, 2\] and \[4, 2\]"),
        ("nt_xent", (torch.zeros(3), torch.zeros(3)), r"\[3\] and \[3\]"),
        ("info_nce", (THREE, THREE, 0.1, True, torch.ones(4, 3)), r"extra_keys: .* \[N, 2\] is needed, got \[4, 3\]"),
        ("info_nce", (THREE, THREE, 0.1, True, torch.ones(3, 4, 2)), r"extra_keys: .* needed, got \[3, 4, 2\]"),
        ("info_nce", (THREE, THREE, 0.1, True, [[1.0, 0.0]]), "extra_keys: .* needed, got list"),
        ("nt_xent", (THREE.long(), THREE.long()), r"a float tensor .* torch.int64"),
        ("info_nce", (THREE, THREE, 0.0), "temperature must be above 0, got 0.0"),
        ("nt_xent", (THREE, THREE, torch.tensor(-1.0)), "temperature must be above 0, got -1.0"),
        ("nt_xent", (THREE, THREE, math.nan), "temperature must be above 0, got nan"),
        ("nt_xent", (THREE, THREE, None), "temperature must be a number, got None"),
        ("nt_xent", (THREE, THREE, "0.5"), "temperature must be a number, got '0.5'"),
        ("info_nce", (THREE, THREE, b"1"), "temperature must be a number, got b'1'"),
        ("info_nce", (THREE, THREE, True), "temperature must be a number, got True"),
        ("nt_xent", (THREE, THREE, 10**400), "temperature must be a number, got 1000"),
        ("nt_xent", (THREE, THREE, torch.tensor(1j)), r"temperature must be a number, got tensor\(0.\+1.j\)"),
        ("nt_xent", (THREE, THREE, 1e-40), "temperature must be above 0, and .* finite, got 1e-40"),
        ("sigmoid_loss", (THREE, THREE, "10", 0), "scale must be a number, got '10'"),
        ("margin_contrastive", (THREE, THREE, torch.ones(3) > 0, "1"), "margin must be a number, got '1'"),
        ("margin_contrastive", (THREE, THREE, torch.ones(3) > 0, torch.ones(2)), "margin must be a number, got tensor"),
        ("hard_negative", (THREE, THREE, 0.5, None), "beta must be a number, got None"),
        ("hard_negative", (THREE, THREE, 0.5, 1, "0"), "tau_plus must be a number, got '0'"),
        ("info_nce", (THREE, THREE.to("meta")), "two tensors on one device are needed, got cpu and meta"),
        ("info_nce", (THREE, THREE, 0.1, True, FOUR.to("meta")), r"extra_keys: .* on cpu, got one on meta"),
        ("sup_con", (THREE, [0, 1, 1], 0.1, FOUR.to("meta"), [0] * 4), r"extra_keys: .* on cpu, got one on meta"),
        ("nt_xent", (THREE.to(torch.float8_e4m3fn),) * 2, r"a float tensor .* torch.float8_e4m3fn"),
        ("decoupled", (THREE, THREE, torch.ones(3)), r"temperature must be one number, got a tensor \[3\]"),
        (
            "info_nce",
            (THREE, THREE, 0.1, FOUR),
            "both_directions must be True or False, got Tensor; give keys as extra_keys=",
        ),
        ("sup_con", (THREE, [0, 1]), r"labels must be 3 integers, one a row, got \[2\]"),
        ("sup_con", (THREE, torch.ones(3)), r"labels must be 3 integers, one a row, got \[3\] torch.float32"),
        ("sup_con", (THREE, [0, None, 1]), "labels must be 3 integers, one a row, got None among them"),
        ("sup_con", (THREE, np.array(["a", "a", "b"])), "labels must be 3 .*, got .*'a'.* among them: number the na"),
        ("sup_con", (THREE, np.array([2**63, 1, 1], dtype=np.uint64)), r"labels must be below 2\*\*63"),
        ("sup_con", (torch.ones(3, 2, 4), [0, 0, 1]), r"got \[3, 2, 4\]; for \[N, V, D\]: .*repeat_interleave\(2\)"),
        ("sup_con", (np.ones((3, 2)), [0, 0, 1]), r"a float tensor \[N, D\] is needed, got ndarray"),
        ("nt_xent", (THREE, np.ones((3, 2))), r"two tensors \[N, D\] are needed, got Tensor and ndarray"),
        ("nt_xent", ([[1.0]], [[1.0]]), "two tensors .* are needed, got list and list"),
        ("info_nce", (THREE, [[1.0, 0.0]]), "two tensors .* are needed, got Tensor and list"),
        ("sup_con", ([[1.0]], [0]), r"a float tensor \[N, D\] is needed, got list"),
        ("decoupled", ([[1.0]], THREE, 0.1), "two tensors .* are needed, got list and Tensor"),
        ("sup_con", (THREE, [0, 1, 1], 0.1, FOUR, [0, 1]), r"extra_labels must be 4 integers, one a row, got \[2\]"),
        ("sup_con", (THREE, [0, 1, 1], 0.1, FOUR, torch.ones(4)), r"extra_labels must be 4 integers, .* torch.float32"),
        ("sup_con", (THREE, [0, 1, 1], 0.1, torch.ones(4, 3), [0] * 4), r"extra_keys: .*\[N, 2\] .*\[4, 3\]"),
        ("sup_con", (THREE, [0, 1, 1], 0.1, FOUR), "extra_keys and extra_labels go together"),
        ("sup_con", (THREE, [0, 1, 1], 0.1, None, [0]), "extra_keys and extra_labels go together"),
        ("sup_con", (THREE, None), "labels must be 3 integers, one a row, got None among them"),
        ("co_sent", (THREE, THREE, [1.0, None, 0.0]), "scores must be 3 numbers, one a row, got None among them"),
        ("sigmoid_loss", (THREE, THREE, -1, 0), "scale must be above 0, got -1"),
        ("sigmoid_loss", (THREE, THREE, 1, math.inf), "bias must be finite, got inf"),
        ("margin_contrastive", (THREE, THREE, torch.ones(3)), r"similar must be 3 booleans, one a row, got \[3\]"),
        ("margin_contrastive", (THREE, THREE, torch.ones(3) > 0, 0), "margin must be above 0, got 0"),
        ("sup_con", (THREE, torch.ones(3) * 1j), r"labels must be 3 integers, one a row, got \[3\] torch.complex64"),
        ("hard_negative", (THREE, THREE, 0.5, -1), "beta must be 0 or more, got -1"),
        ("hard_negative", (THREE, THREE, 0.5, math.inf), "beta must be finite, got inf"),
        ("hard_negative", (THREE, THREE, 0.5, 1, 1.0), r"tau_plus must be in \[0, 1\), got 1.0"),
    ],
)
def test_wrong_input_is_named(name: str, arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        getattr(functional, name)(*arguments)


@pytest.mark.parametrize(
    "more", [{}, {"extra_keys": FOUR, "both_directions": True}, {"extra_keys": FOUR, "ids": [0] * 3}]
)
def test_what_a_queue_alone_does_not_go_with_is_refused(more: Any) -> None:
    with pytest.raises(
        InputError, match="in_batch=False needs both_directions=False and extra_keys=, and takes no ids="
    ):
        functional.info_nce(THREE, THREE, **{"both_directions": False, "in_batch": False, **more})


@pytest.mark.parametrize("temperature", [1, np.float32(1), np.array(1.0), torch.tensor(1), torch.ones(1, 1)])
def test_a_temperature_is_any_librarys_number(temperature: Any) -> None:
    assert functional.nt_xent(THREE, THREE, temperature) == functional.nt_xent(THREE, THREE, 1.0)


def test_an_unknown_similarity_is_named() -> None:
    with pytest.raises(InputError, match="'cosine' or 'dot', got 'l2'"):
        functional.nt_xent(THREE, THREE, similarity="l2")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*NAMES, "co_sent", "margin_contrastive"])
@pytest.mark.parametrize("rows", [4, 200])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_transforms_of_functions_are_refused_or_exact(name: str, rows: int, similarity: Any) -> None:
    a, b = (v.double() for v in draw(rows, 3, 0, 1.0))
    column = [i % 2 for i in range(rows)]
    of: dict[str, Callable[[Tensor], Tensor]] = {
        "sup_con": lambda z: functional.sup_con(z, column, similarity=similarity),
        "sigmoid_loss": lambda z: functional.sigmoid_loss(z, b, 10.0, -10.0, similarity=similarity),
        "co_sent": lambda z: functional.co_sent(z, b, column, similarity=similarity),
        "margin_contrastive": lambda z: functional.margin_contrastive(z, b, torch.arange(rows) % 2 == 0),
    }
    loss = of.get(name, lambda z: getattr(functional, name)(z, b, 0.5, similarity=similarity))
    z = a.clone().requires_grad_()
    transforms: list[tuple[Callable[[], Any], Tensor]] = [
        (lambda: torch.func.grad(loss)(a), torch.autograd.grad(loss(z), z)[0]),
        (lambda: torch.func.vmap(loss)(torch.stack([a, b])), torch.stack([loss(a), loss(b)])),
    ]
    for transformed, wanted in transforms:
        try:
            found = transformed()
        except RuntimeError as error:
            if "functorch transforms" not in str(error) or name == "margin_contrastive":
                raise
        else:
            torch.testing.assert_close(found, wanted)
