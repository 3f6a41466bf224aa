"""Inputs of the contrast op, and its values and gradients, in one process or on one rank."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from multicl.distributed import World
from multicl.ops import blocks
from multicl.ops.contrast import contrast
from multicl.ops.relation import Extra, Relation, Side, Stats


@dataclass(frozen=True)
class Case:
    symmetric: bool = False
    equal_ids: Literal["positive", "ignore"] = "positive"
    tilts: tuple[float, ...] = (1.0,)
    inside: bool = True
    both: bool = True
    scale: float = 3.0
    extra: Literal["ignore", "negative"] | None = None


CASES = [
    Case(*values)
    for values in product(
        [False, True], ["positive", "ignore"], [(1.0,), (1.5, 0.5)], [True, False], [True, False], [3.0, 100.0],
        [None, "ignore", "negative"],
    )
]  # fmt: skip


def pairs_of_values(cases: Iterable[Case]) -> set[Any]:
    """All pairs of values of two settings that occur together in one of the cases."""
    return {two for case in cases for two in combinations(vars(case).items(), 2)}


def inputs(case: Case, na: int, nb: int, d: int, classes: int, seed: int) -> dict[str, Tensor]:
    """Float64 rows with ids of few classes, some shared by both sides, extra keys, and gradients of the statistics.

    With many classes, rows are sorted: positives lie around the diagonal, and most of the matrix holds none.
    """
    g = torch.Generator().manual_seed(seed)

    def units(n: int) -> Tensor:
        return normalize(torch.randn(n, d, dtype=torch.float64, generator=g), dim=1)

    ids = torch.randint(classes, (4 * (na + nb),), generator=g)
    found = {
        "a": units(na), "b": units(nb), "x_a": units(5), "x_b": units(6),
        "scale": torch.tensor([case.scale], dtype=torch.float64),
        "row_a": torch.randperm(na + 2, generator=g)[:na] % (max(na // 2, 1) if case.symmetric else na + 2),
        "row_b": torch.randperm(nb + 2, generator=g)[:nb],
        "row_x_a": torch.randint(2 * (na + nb), (5,), generator=g),
        "row_x_b": torch.randint(2 * (na + nb), (6,), generator=g),
    }  # fmt: skip
    if classes > 4 * (na + nb):
        found |= {name: found[name].sort().values for name in ("row_a", "row_b")}
    found |= {f"id_{name}": ids[found[f"row_{name}"]] for name in ("a", "b", "x_a", "x_b")}
    tilts = len(case.tilts)
    found |= {
        f"g_{name}": torch.randn(tilts + 1, n, dtype=torch.float64, generator=g) for name, n in (("a", na), ("b", nb))
    }
    return found


def compute(
    op: Callable[..., Stats], case: Case, given: dict[str, Tensor], at_a: slice = slice(None), at_b: slice = slice(None)
) -> dict[str, Tensor]:
    """Statistics of the rows `at_a` and `at_b`, and the gradients of their weighted sum."""
    kind = given["a"].dtype
    a, b = given["a"][at_a].clone().requires_grad_(), given["b"][at_b].clone().requires_grad_()
    scale, x_a, x_b = (given[name].clone().requires_grad_() for name in ("scale", "x_a", "x_b"))
    side_a, side_b = Side(given["row_a"][at_a], given["id_a"][at_a]), Side(given["row_b"][at_b], given["id_b"][at_b])
    extra_a, extra_b = (
        [Extra(z, given[f"row_{name}"], given[f"id_{name}"], case.extra)] if case.extra else []
        for name, z in (("x_a", x_a), ("x_b", x_b))
    )
    if case.extra and case.symmetric:  # two kinds of extra keys at once
        extra_a, extra_b = [*extra_a, Extra(x_b, given["row_x_b"], given["id_x_b"])], []
    relation = Relation(side_a, side_a if case.symmetric else side_b, case.equal_ids)
    more = {} if case.scale < 40 or op is not contrast else {"unit": True}
    stats = op(
        a, None if case.symmetric else b, scale, relation, extra_a, extra_b, case.tilts, case.inside, case.both, **more
    )
    out, total = {}, torch.zeros((), dtype=kind)
    for name, sums, at in (("a", stats.a, at_a), ("b", stats.b, at_b)):
        if sums is not None:
            out |= {f"lse_{name}": sums.lse, f"positive_{name}": sums.positive, f"positives_{name}": sums.positives}
            weight = given[f"g_{name}"][:, at]
            total = total + (sums.lse * weight[:-1]).sum() + (sums.positive * weight[-1]).sum()
    wanted = {"d_a": a, "d_b": b, "d_scale": scale, "d_x_a": x_a, "d_x_b": x_b}
    grads = torch.autograd.grad(total, list(wanted.values()), allow_unused=True, materialize_grads=True)
    return {**{name: value.detach() for name, value in out.items()}, **dict(zip(wanted, grads, strict=True))}


def of_rank(numbers: Sequence[int], counts_a: list[int], counts_b: list[int]) -> list[dict[str, Any]]:
    """`compute` of the cases with these numbers on this rank's rows, as lists."""
    blocks.tile_size = lambda device: 4
    world = World.current()
    at_a, at_b = (slice(sum(n[: world.rank]), sum(n[: world.rank + 1])) for n in (counts_a, counts_b))
    return [
        {name: value.tolist() for name, value in compute(contrast, case, given, at_a, at_b).items()}
        for case, given in ((CASES[i], inputs(CASES[i], sum(counts_a), sum(counts_b), 4, 9, i)) for i in numbers)
    ]
