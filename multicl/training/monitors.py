"""Figures of a step's embeddings: does each pair agree, and does each node still fill its space?

They are computed on logged steps, without gradients, from embeddings that the step has anyway: at most `SAMPLE` rows of
each view. Only rank 0 computes them, from its own rows, so that no rank waits for another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from multicl.evaluation.geometry import alignment, rank_of, uniformity
from multicl.ops.relation import Side, related
from multicl.pairs import Call, Pair
from multicl.types import Embedded

SAMPLE = 512
"""Rows sampled from each view: 1,024 for the two views that a pair compares."""
SPECTRUM = 256
"""In a space wider than this, the effective rank is taken from this many rows: its time grows with their cube."""
DEAD = 1e-4
"""A dimension is dead if its variance is at most this fraction of the mean square of all elements."""


@dataclass(frozen=True)
class Compared:
    """The first rows of both sides of a call, detached, as its objective saw them."""

    call: Call
    a: Embedded
    b: Embedded
    rows: int
    """Number of rows of b on this rank before sampling."""
    factors: tuple[Embedded, Embedded] | None = None
    """What the objective multiplies instead of a and b, such as Bilinear's a W and b. They differ even if both sides
    are of one node."""

    @property
    def sides(self) -> tuple[Embedded, Embedded]:
        """The two sides that the objective compares."""
        return self.factors or (self.a, self.b)


@torch.no_grad()
def sample(call: Call, a: Embedded, b: Embedded, rows: int, objective: nn.Module | None = None) -> list[Compared]:
    """Copy at most `rows` rows of each side; an empty list if `rows` is 0 or a view is a local crop.

    Args:
        objective: the pair's module; it may have a method `factors`, which maps a and b to what it multiplies.
    """
    if not rows or "local" in (call.a.kind, call.b.kind):
        return []
    some = _first(a, rows), _first(b, rows)
    factors = getattr(objective, "factors", None)
    return [Compared(call, *some, len(b), None if factors is None else factors(*some))]


@dataclass(frozen=True)
class Agreement:
    """How well the two sides of a pair find each other."""

    accuracy: dict[str, float]
    """"accuracy" is the share of rows whose most similar key is a positive. A pair of two nodes also has "accuracy_ab",
    with a's rows as queries, and "accuracy_ba". Empty if no row has a positive."""
    alignment: float | None
    """Mean squared distance between a row's two unit vectors, in [0, 4]; None if no row has both."""
    keys: int
    """Number of keys that each query was compared with."""
    rows: int
    """Number of rows of b on this rank."""
    within: bool
    """Whether both sides are keys for both, as in NT-Xent."""


@dataclass(frozen=True)
class Geometry:
    """How a node's embeddings are distributed in a space."""

    uniformity: float
    """As in `multicl.evaluation.uniformity`: 0 is a single point, about -4 an even spread."""
    effective_rank: float
    """Effective rank of the covariance: how many directions the rows really use; 0 if all rows are the same."""
    dead: float
    """Share of the dimensions that hardly vary."""
    most: int
    """The largest effective rank possible with this number of rows, dimensions and distinct ids."""


@dataclass(frozen=True)
class Figures:
    """What the monitors see on one step."""

    pairs: dict[str, Agreement]
    nodes: dict[str, Geometry]
    """"node.space" -> its geometry."""

    def flat(self) -> dict[str, float]:
        """The figures under their names in metrics.jsonl."""
        row: dict[str, float] = {}
        for name, pair in self.pairs.items():
            row |= {f"{name}/{key}": value for key, value in pair.accuracy.items()}
            if pair.alignment is not None:
                row[f"{name}/alignment"] = pair.alignment
        for name, node in self.nodes.items():
            row[f"{name}/uniformity"] = node.uniformity
            row[f"{name}/effective_rank"] = node.effective_rank
            row[f"{name}/dead_dimensions"] = node.dead
        return row


@torch.no_grad()
def figures_of(terms: Sequence[Pair], compared: Mapping[str, Sequence[Compared]]) -> Figures:
    """The figures of a step; pairs and nodes without enough rows are left out.

    Args:
        compared: name of a pair -> what its calls compared.
    """
    agreements: dict[str, Agreement] = {}
    sides: dict[str, Tensor] = {}
    things: dict[str, int] = {}
    for pair in terms:
        seen = [_finite(c) for c in compared.get(pair.name, ())]
        if (found := agreement(pair, seen)) is not None:
            agreements[pair.name] = found
        for c in seen:
            for view, side in ((c.call.a, c.a), (c.call.b, c.b)):
                if len(side) < 2 or (c.call.momentum and side is c.b):
                    continue
                name = f"{view.node}.{pair.space}"
                sides.setdefault(name, side.z)
                distinct = len(side.id.unique())  # with labels, a class collapsing to a point is no fault
                things[name] = min(things.get(name, distinct), distinct)
    return Figures(agreements, {name: geometry(z, things[name]) for name, z in sides.items()})


def agreement(pair: Pair, seen: Sequence[Compared]) -> Agreement | None:
    """Agreement over the calls of one pair, weighted by call; None if there is nothing to compare."""
    if pair.target:  # the two sides of a row may rightly be dissimilar
        return None
    seen = [c for c in seen if all(map(len, c.sides)) and c.sides[0].z.shape[1] == c.sides[1].z.shape[1]]
    if not seen:
        return None
    both = pair.both_directions
    shares: dict[str, list[tuple[float, float]]] = {}
    distances: list[tuple[float, float]] = []
    keys = 0
    for c in seen:
        symmetric = pair.symmetric and c.call.both and c.factors is None
        similarity = "dot" if c.factors else getattr(pair.objective, "similarity", "cosine")
        a, b = (_joined(*c.sides),) * 2 if symmetric else c.sides
        keys = len(b) - symmetric
        ab, ba = accuracies(a, b, pair.equal_ids, similarity, within=symmetric)
        found = [ab] if symmetric or not (both and c.call.both) else [ab, ba]
        shares.setdefault("accuracy", []).extend((share, c.call.weight) for share in found if share is not None)
        if not pair.symmetric:
            names = ("accuracy_ab", "accuracy_ba")
            if c.call.a.node != pair.a:
                names = names[::-1]
            for name, share in zip(names, found, strict=False):
                shares.setdefault(name, []).extend([] if share is None else [(share, c.call.weight)])
        a, b = c.sides
        i, j = (a.row[:, None] == b.row).nonzero(as_tuple=True)
        if len(i):
            distances.append((alignment(a.z[i], b.z[j]), c.call.weight))
    accuracy = {name: _weighted(values) for name, values in shares.items() if values}
    return Agreement(accuracy, _weighted(distances) if distances else None, keys, c.rows, symmetric)


def accuracies(
    a: Embedded,
    b: Embedded,
    equal_ids: Literal["positive", "ignore"] = "positive",
    similarity: str = "cosine",
    within: bool = False,
) -> tuple[float | None, float | None]:
    """Top-1 in-batch accuracy: the share of a's rows whose most similar row of b is a positive, and the reverse.

    Only rows that have a positive count; None if there are none. Queue keys and explicit negatives are not compared.

    Args:
        a, b: [N, D] and [M, D]; an N x M similarity matrix is computed.
        similarity: "cosine" or "dot". within: a and b are the same rows, and a row is not a key for itself.
    """
    za, zb = (torch.nn.functional.normalize(v.z, dim=1) if similarity == "cosine" else v.z for v in (a, b))
    alike = za @ zb.T  # [N, M]
    positive, ignored = related(Side(a.row, a.id), Side(b.row, b.id), equal_ids, "positive")
    assert positive is not None
    hidden = torch.zeros_like(positive) if ignored is None else ignored
    if within:
        hidden = hidden | torch.eye(len(a), dtype=torch.bool, device=hidden.device)
        positive = positive & ~hidden
    alike.masked_fill_(hidden, -torch.inf)
    ab = _top1(alike, positive, 1)
    return ab, ab if within else _top1(alike, positive, 0)


def geometry(z: Tensor, distinct: int | None = None) -> Geometry:
    """Geometry of [N, D] embeddings, N >= 2, from their unit vectors; dead dimensions, from the vectors as they are.

    Args:
        distinct: number of distinct ids among the rows; None: N.
    """
    z = z.float()
    x = torch.nn.functional.normalize(z, dim=1)
    n, d = x.shape
    dead = (z.var(0, correction=0) <= DEAD * z.square().mean()).float().mean()
    few = x[:SPECTRUM] if d > SPECTRUM else x
    most = min(len(few), n if distinct is None else distinct) - 1
    return Geometry(uniformity(x), covariance_rank(few), float(dead), max(1, min(d, most)))


def covariance_rank(x: Tensor) -> float:
    """Effective rank of the covariance of [N, D] rows, in [1, min(N - 1, D)]; 0 if all rows are the same."""
    x = x.cpu().double()  # small, and an eigendecomposition of this size is slow on a GPU
    x = x - x.mean(0)
    square = x.T @ x if x.shape[1] <= x.shape[0] else x @ x.T  # the same non-zero eigenvalues
    if float(square.trace()) < 1e-12 * len(x):
        return 0.0
    return rank_of(torch.linalg.eigvalsh(square).clamp(min=0))


def _top1(alike: Tensor, positive: Tensor, dim: int) -> float | None:
    asks = positive.any(dim)
    hit = positive.gather(dim, alike.argmax(dim, keepdim=True)).squeeze(dim)
    hits, count = torch.stack([(hit & asks).sum(), asks.sum()]).tolist()
    return hits / count if count else None


def _weighted(values: Sequence[tuple[float, float]]) -> float:
    return sum(value * weight for value, weight in values) / sum(weight for _, weight in values)


def _first(side: Embedded, rows: int) -> Embedded:
    at = torch.arange(min(rows, len(side)), device=side.z.device)
    return Embedded(side.z.detach()[at], side.row[at], side.id[at])


def _finite(c: Compared) -> Compared:
    factors = None if c.factors is None else (_finite_rows(c.factors[0]), _finite_rows(c.factors[1]))
    return Compared(c.call, _finite_rows(c.a), _finite_rows(c.b), c.rows, factors)


def _finite_rows(side: Embedded) -> Embedded:
    good = torch.isfinite(side.z).all(1)
    return side if bool(good.all()) else side[good]


def _joined(a: Embedded, b: Embedded) -> Embedded:
    return Embedded(torch.cat([a.z, b.z]), torch.cat([a.row, b.row]), torch.cat([a.id, b.id]))
