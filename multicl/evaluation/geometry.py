"""Geometry of embeddings: alignment, uniformity, effective rank, modality gap."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from multicl.evaluation.checks import features, paired, positive, unit
from multicl.evaluation.figure import Figure, mean_of
from multicl.evaluation.tiles import tile_rows
from multicl.types import InputError


def alignment(a: Tensor, b: Tensor, alpha: float = 2) -> Figure:
    """Mean of |a_i - b_i|^alpha over positive pairs of unit vectors; 0 is perfect, 2 is chance (alpha = 2).

    Wang & Isola 2020, arXiv:2005.10242, section 4.1.1.

    Args:
        a: [N, D]; normalised here.
        b: [N, D]; row i is the positive of row i of a.
        alpha: above 0.

    Raises:
        InputError: shapes that do not fit, NaN, alpha not above 0.
    """
    positive("alpha", alpha)
    a, b = paired("a", a, "b", b)
    return mean_of((unit(a) - unit(b)).norm(dim=1).pow(alpha))


def uniformity(x: Tensor, t: float = 2, chunk: int = 1024) -> Figure:
    """Log of the mean of exp(-t |x_i - x_j|^2) over pairs i < j of unit vectors; 0 is collapse, lower is more even.

    Wang & Isola 2020, arXiv:2005.10242, section 4.1.2. The interval is that of the mean over pairs to first order in
    each row (Hoeffding 1948), so that a row drawn twice is not at distance zero from itself. It is too wide where rows
    hardly differ in their mean over the others.

    Args:
        x: [N, D]; normalised here.
        t: above 0.
        chunk: rows of a tile of distances; fewer where N is large, so that a tile stays within 16 MB.

    Raises:
        InputError: not [N, D], NaN, fewer than two rows, t or chunk not above 0.
    """
    positive("t", t)
    positive("chunk", chunk)
    x = unit(features("x", x))
    n = len(x)
    if n < 2:
        raise InputError("x has a single row; uniformity needs at least two")
    chunk = tile_rows(chunk, n)
    logs = []
    for at in range(0, n, chunk):
        powers = -t * _distances(x[at : at + chunk], x[at:])  # columns from the diagonal on
        later = torch.ones_like(powers, dtype=torch.bool).triu(diagonal=1)
        logs.append(powers.masked_fill(~later, -torch.inf).flatten().logsumexp(dim=0))
    log_mean = float(torch.stack(logs).logsumexp(dim=0)) - math.log(n * (n - 1) / 2)
    shares: list[Tensor] = []  # computed when an interval is asked for: takes all tiles once more

    def again(index: Tensor) -> float:
        if not shares:
            shares.append(_shares(x, t, chunk, log_mean))
        return log_mean + math.log(max(1 + 2 * float(shares[0][index].mean() - 1), 1e-12))

    return Figure(log_mean, n, again)


def _shares(x: Tensor, t: float, chunk: int, log_mean: float) -> Tensor:
    """[N] each row's mean of exp(-t d), divided by the mean over all pairs; these average 1."""
    means = []
    for at in range(0, len(x), chunk):
        powers = -t * _distances(x[at : at + chunk], x)
        powers.diagonal(offset=at).fill_(-torch.inf)
        means.append(powers.logsumexp(dim=1) - math.log(len(x) - 1))
    return (torch.cat(means).double() - log_mean).exp().cpu()


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """[N, D], [M, D] -> [N, M] squared distances."""
    length = b.square().sum(dim=1)  # 1, or 0 for a row of zeros
    return (a.square().sum(dim=1)[:, None] + length - 2 * a @ b.T).clamp(min=0)


def effective_rank(x: Tensor) -> Figure:
    """exp(entropy) of the singular values, scaled to sum 1: how many directions x really uses, in [1, min(N, D)].

    Roy & Vetterli 2007, "The effective rank", definition 1. `x` is neither centred nor normalised here. A resample has
    fewer distinct rows and so a lower rank; the interval is shifted back by the mean of that bias.

    Args:
        x: [N, D].

    Raises:
        InputError: not [N, D], NaN, or all zeros.
    """
    x = features("x", x)
    values = torch.linalg.svdvals(x.double() if x.device.type != "mps" else x)
    if values.sum() == 0:
        raise InputError("x is all zeros, so it has no effective rank")
    rows = x.cpu().double()

    def again(index: Tensor) -> float:
        weight = index.bincount(minlength=len(rows)).double()
        squares = torch.linalg.eigvalsh(rows.T @ (rows * weight[:, None]))
        return rank_of(squares.clamp(min=0).sqrt())

    return Figure(rank_of(values), len(rows), again, draws=200, biased=True)  # each decomposes a [D, D]


def rank_of(values: Tensor) -> float:
    """exp(entropy) of singular values, scaled to sum 1."""
    return float(torch.special.entr(values / values.sum()).sum().exp())


def modality_gap(a: Tensor, b: Tensor, together: bool = False) -> Figure:
    """Distance between the mean unit vectors of two modalities, in [0, 2]; 0: they share a centre.

    Liang et al. 2022, arXiv:2203.02053, section 4.2. Means of resampled rows lie further apart than those of all rows.
    The interval subtracts what that adds to the squared distance, the variance of the means.

    Args:
        a: [N, D]; normalised here.
        b: [M, D].
        together: row i of a and of b belong to one thing, and the bootstrap draws both at once; N = M.

    Raises:
        InputError: shapes that do not fit, NaN.
    """
    a, b = paired("a", a, "b", b) if together else (features("a", a), features("b", b, like=("a", a)))
    x, y = unit(a), unit(b)
    gap = float((x.mean(dim=0) - y.mean(dim=0)).norm())
    sets = [one.cpu().double() for one in ((x - y,) if together else (x, y))]
    excess = sum(float((one - one.mean(dim=0)).square().sum()) / len(one) ** 2 for one in sets)

    def again(*drawn: Tensor) -> float:
        counts = (index.bincount(minlength=len(one)).double() for index, one in zip(drawn, sets, strict=True))
        first, *second = (count @ one / len(one) for count, one in zip(counts, sets, strict=True))
        return math.sqrt(max(0.0, float((first - sum(second)).square().sum()) - excess))

    return Figure(gap, tuple(map(len, sets)), again)
