"""InfoNCE by `multicl.ops.direct`, compared with the plain form in float64."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, NamedTuple

import pytest
import torch
from interpreted import interpret
from torch import Tensor

from multicl.distributed import World
from multicl.objectives import softmax
from multicl.ops import blocks, finish, fused, plain, unit
from multicl.ops.relation import Extra, Relation, Side


@dataclass(frozen=True)
class Case:
    keys: int | None
    """None: a symmetric matrix."""
    both: bool
    equal_ids: Literal["positive", "ignore"]
    cosine: bool
    ids: int
    """Number of different ids; 0: each row has its own, and its key is at the same index."""
    extra: Literal["ignore", "negative"] | None = None
    scale: float = 6.0


CASES = [
    Case(keys, both, *more, None if keys is None else ("ignore" if both else "negative"))
    for keys, both, *more in product([None, 13], [True, False], ["positive", "ignore"], [True, False], [0, 9])
    if (both or keys is not None) and (both + (more[0] == "ignore") + more[1] + (more[2] == 0)) % 2
]
"""All combinations of any three settings occur."""
ROWS, WIDTH = 20, 11


def prepare() -> None:
    """Make the kernels run on a CPU, in tiles of a few rows."""
    interpret()
    blocks.tile_size = lambda device: 32
    small, smaller = fused.Sizes(16, 16, 16, 4, 2), fused.Sizes(8, 8, 16, 4, 2)
    fused.plan = lambda products, roomy: fused.Plan(small, small, smaller, (16, 16))
    fused.PROGRAMS, finish.BLOCK, finish.AT_ONCE = 4, 16, 8


class Given(NamedTuple):
    a: Tensor
    b: Tensor | None
    scale: Tensor
    relation: Relation
    extras: list[Extra]


def inputs(case: Case, seed: int, times: int = 1) -> Given:
    """Float64 inputs with `times` as many rows, the second of them zero; some extra keys share rows with them."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(case.ids or 1, (2 * times * ROWS,), generator=draw)
    sides, rows = [], []
    for n in (times * ROWS, times * (case.keys or ROWS), times * 7):
        row = torch.randperm(2 * n, generator=draw)[:n] if case.ids else torch.arange(n)
        sides.append(Side(row, ids[row] if case.ids else row))
        z = torch.randn(n, WIDTH, dtype=torch.float64, generator=draw)
        rows.append(z if case.cosine else torch.nn.functional.normalize(z, dim=1) * 1.5)
        rows[-1][1] = 0
    scale = torch.tensor([case.scale], dtype=torch.float64)
    if case.keys is None:
        half = torch.arange(times * ROWS) % (times * ROWS // 2 + 1)
        own = sides[0] if case.ids else Side(half, half)
        return Given(rows[0], None, scale, Relation(own, own, case.equal_ids), [])
    extras = [Extra(rows[2], sides[2].row, sides[2].id, case.extra)] if case.extra else []
    return Given(rows[0], rows[1], scale, Relation(sides[0], sides[1], case.equal_ids), extras)


def wanted(case: Case, seed: int, times: int) -> list[Tensor]:
    """Loss, confidence and gradients of a, b and the scale, in float64."""
    a, b, scale, relation, extras = inputs(case, seed, times)
    leaves = [z.requires_grad_() for z in (a, b, scale) if z is not None]
    u, v, *more = (z if z is None or not case.cosine else unit.unit(z) for z in (a, b, *(e.z for e in extras)))
    assert u is not None
    more = [replace(extra, z=z) for extra, z in zip(extras, more, strict=True)]
    stats = plain.contrast(u, v, scale, relation, more, both=case.both)
    loss = softmax.info_nce_loss(stats, World())
    return [loss.detach(), softmax.confidence(stats, World()), *torch.autograd.grad(3 * loss, leaves)]


def moved(given: Given, device: str, kind: torch.dtype) -> Given:
    """The inputs on a device, their rows of type `kind` and not contiguous."""

    def rows(z: Tensor) -> Tensor:
        return torch.cat([z, z], 1).to(device, kind)[:, : z.shape[1]]

    a, b = Side(given.relation.a.row.to(device), given.relation.a.id.to(device)), given.relation.b
    relation = replace(given.relation, a=a, b=Side(b.row.to(device), b.id.to(device)))
    extras = [replace(e, z=rows(e.z), row=e.row.to(device), id=e.id.to(device)) for e in given.extras]
    scale = given.scale.to(device, torch.float32)
    return Given(rows(given.a), None if given.b is None else rows(given.b), scale, relation, extras)


def found(
    case: Case, seed: int, times: int, device: str, kind: torch.dtype, products: torch.dtype
) -> list[Tensor]:  # fmt: skip
    """The same by the kernels; the loss is tripled in place."""
    from multicl.ops.direct import direct_loss

    given = moved(inputs(case, seed, times), device, kind)
    given = given._replace(a=given.a if seed % 2 else given.a.T.contiguous().T)
    leaves = [z.requires_grad_() for z in given[:3] if z is not None]
    loss, share = direct_loss(*given, fused.Fused(products), case.both, case.cosine)
    value = loss.detach().clone()
    loss *= 3
    grads = torch.autograd.grad(loss, leaves)
    assert [g.dtype for g in grads] == [kind] * (len(grads) - 1) + [torch.float32]
    return [value, share, *grads]


def compare(device: str, times: int, kind: torch.dtype, products: torch.dtype, tolerance: float) -> int:
    """Compare all cases by norm, and the scale's gradient, a sum of both signs, by its summands; how many there are."""
    for seed, case in enumerate(CASES):
        right = wanted(case, seed, times)
        for at, (mine, theirs) in enumerate(zip(found(case, seed, times, device, kind, products), right, strict=True)):
            size = theirs.norm()
            if at == len(right) - 1:
                size = sum(grad.norm() * len(grad) ** 0.5 for grad in right[2:-1]) / case.scale
            error = (mine.double().cpu().view_as(theirs) - theirs).norm()
            assert error <= tolerance * size + 1e-12, f"{case}: value {at} is off by {error} of {size}"
    return len(CASES)


def alone(device: str) -> None:
    """Inputs that need no gradient get none, the others the same as together; double backward is refused."""
    from multicl.ops.direct import direct_loss

    case = CASES[-1]
    *rows, relation, extras = moved(inputs(case, 0), device, torch.float32)
    settings = relation, extras, fused.Fused(torch.float32), case.both, case.cosine

    def grads(*wants: bool) -> list[Tensor | None]:
        leaves = [z.clone().requires_grad_(want) for z, want in zip(rows, wants, strict=True)]
        direct_loss(*leaves, *settings)[0].backward()
        return [z.grad for z in leaves]

    whole = grads(True, True, True)
    for wants in ((True, False, False), (False, True, False), (False, False, True)):
        for got, right, want in zip(grads(*wants), whole, wants, strict=True):
            assert (got is not None) == want
            if got is not None:
                torch.testing.assert_close(got, right)
    apart = rows[0].T.contiguous().T.requires_grad_()  # the only one that needs a gradient, and not row-major
    (grad,) = torch.autograd.grad(direct_loss(apart, *rows[1:], *settings)[0], apart)
    torch.testing.assert_close(grad, whole[0])
    x = rows[0].clone().requires_grad_()
    (grad,) = torch.autograd.grad(direct_loss(x, *rows[1:], *settings)[0], x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"multicl\.ops\.plain\.contrast"):
        grad.sum().backward()


def all_here(kind: torch.dtype, products: torch.dtype, tolerance: float) -> int:
    """Everything, interpreted."""
    prepare()
    if products == torch.float32:
        alone("cpu")
    return compare("cpu", 1, kind, products, tolerance)
