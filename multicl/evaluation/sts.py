"""Semantic textual similarity: does cosine similarity order pairs as people do?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from multicl.evaluation.checks import Ids, codes, paired, unit
from multicl.evaluation.figure import Figure, average_of
from multicl.types import InputError


def spearman(x: Tensor, y: Tensor) -> float:
    """Spearman's rank correlation of x [N] and y [N], in [-1, 1]; equal values share their average rank.

    Raises:
        InputError: not two vectors of one length of at least 2, NaN, or all values of one of them equal.
    """
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2:
        raise InputError(f"x and y must be [N] with N at least 2, got {list(x.shape)} and {list(y.shape)}")
    return _correlation(_order("x", x), _order("y", y))


def sts_spearman(a: Tensor, b: Tensor, scores: Tensor | Sequence[float]) -> Figure:
    """Spearman's correlation of cos(a_i, b_i) with people's scores, over all pairs at once.

    SimCSE's measure (arXiv:2104.08821, appendix B: "all" aggregation); papers print it times 100.

    Args:
        a: [N, D] embeddings of the first texts.
        b: [N, D] of the second.
        scores: [N] graded similarity, in any unit.

    Raises:
        InputError: shapes that do not fit, scores that are not numbers, NaN, or no variance on one side (a collapsed
            model).
    """
    a, b = paired("a", a, "b", b)
    scores = _numbers(scores)
    if scores.shape != (len(a),):
        raise InputError(f"scores must be [{len(a)}] as a and b have as many rows, got {list(scores.shape)}")
    cos = (unit(a) * unit(b)).sum(dim=1)
    x, y = _order("the cosines of a and b", cos), _order("scores", scores)
    return Figure(_correlation(x, y), len(x), lambda index: _correlation(x[index], y[index]))


def sts_mean_spearman(a: Tensor, b: Tensor, scores: Tensor | Sequence[float], parts: Ids) -> Figure:
    """The mean of `sts_spearman` over the parts of a set; STS12 to STS16 have several parts each.

    SimCSE's "mean" aggregation (arXiv:2104.08821, appendix B), which many older papers report; "all" is usual now.

    Args:
        parts: [N] ints or strings, the part that each pair belongs to.
        a, b, scores, and errors: as `sts_spearman`, for every part.
    """
    (part,), scores = codes(("parts", parts, len(a))), _numbers(scores)
    chosen: Sequence[Tensor] = [(part == number).nonzero()[:, 0] for number in range(int(part.max()) + 1)]
    return average_of([sts_spearman(a[i.to(a.device)], b[i.to(b.device)], scores[i.to(scores.device)]) for i in chosen])


def _numbers(scores: Tensor | Sequence[float]) -> Tensor:
    """Scores as a tensor, from a tensor, an array, a pandas Series or a list; None becomes NaN."""
    if isinstance(scores, Tensor):
        return scores
    try:
        return torch.from_numpy(np.array(scores, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise InputError(f"scores must be numbers, one a row: {error}") from error


def _order(name: str, x: Tensor) -> Tensor:
    """Dense ranks of x [N], 0 for its least value: int64 [N] on the CPU."""
    x = x.detach().cpu()
    if x.is_floating_point() and not torch.isfinite(x).all():
        raise InputError(f"{name} has NaN or infinite values")
    order: Tensor
    values, order = torch.unique(x, return_inverse=True)
    if len(values) < 2:
        raise InputError(
            f"{name}: all {len(x)} values are {x.flatten()[0].item()}; without variance there is no correlation"
        )
    return order


def _correlation(x: Tensor, y: Tensor) -> float:
    """Spearman's correlation of two dense ranks [N], or of rows drawn from them, unsorted; NaN without variance."""
    rank_x, rank_y = _ranks(x), _ranks(y)
    return float((rank_x @ rank_y) / (rank_x.norm() * rank_y.norm()))


def _ranks(order: Tensor) -> Tensor:
    """Centred average ranks [N], float64, of dense ranks."""
    counts = order.bincount()
    average = counts.cumsum(0) - (counts - 1).double() / 2
    return average[order] - (len(order) + 1) / 2
