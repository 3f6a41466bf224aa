"""Clustering: do the groups that k-means finds agree with the labels, which it never sees?"""

from __future__ import annotations

import torch
from torch import Tensor

from multicl.evaluation.checks import Ids, codes, features, positive, unit
from multicl.evaluation.figure import Figure
from multicl.evaluation.tiles import tile_rows
from multicl.types import InputError


def clustering(
    x: Tensor, labels: Ids, clusters: int | None = None, restarts: int = 10, seed: int = 0
) -> dict[str, float]:
    """Cluster by spherical k-means, and measure how well the clusters agree with the labels.

    Args:
        x: [N, D]; normalised here. labels: [N] ints or strings.
        clusters: number of clusters; default: the number of distinct labels.
        restarts: runs of k-means, of which the one with the least distance counts. seed: of the starting points.

    Returns:
        "nmi" in [0, 1] and "ari" in [-0.5, 1]. Their intervals resample rows and keep the clusters that were found.

    Raises:
        InputError: shapes that do not fit, NaN, fewer than two distinct labels, or more clusters than rows.
    """
    x = features("x", x)
    (truth,) = codes(("labels", labels, len(x)))
    k = int(truth.max()) + 1 if clusters is None else clusters
    if int(truth.max()) < 1:
        raise InputError("labels holds a single value; agreement with clusters needs at least two")
    found = k_means(x, k, restarts, seed).cpu()
    measures = {"nmi": normalized_mutual_information, "ari": adjusted_rand_index}
    return {
        name: Figure(measure(truth, found), len(x), lambda index, m=measure: m(truth[index], found[index]))
        for name, measure in measures.items()
    }


def k_means(x: Tensor, clusters: int, restarts: int = 10, seed: int = 0, iterations: int = 100) -> Tensor:
    """[N] int64 clusters by spherical k-means from k-means++ starts: all vectors are unit (Dhillon & Modha 2001).

    Raises:
        InputError: more clusters than rows, or a number that is not above 0.
    """
    for name, value in (("clusters", clusters), ("restarts", restarts), ("iterations", iterations)):
        positive(name, value)
    if clusters > len(x):
        raise InputError(f"{clusters} clusters are more than the {len(x)} rows: give fewer")
    x = unit(features("x", x))
    best, kept = -torch.inf, None
    for at in range(restarts):
        dice = torch.Generator().manual_seed(seed + at)
        centres = x[_starts(x, clusters, dice)]
        before: Tensor | None = None
        for _ in range(iterations):
            near, cos = _nearest(x, centres)
            if before is not None and torch.equal(near, before):
                break
            before = near
            sums = torch.zeros_like(centres).index_add_(0, near, x)
            empty = near.bincount(minlength=clusters) == 0
            if empty.any():  # an empty cluster restarts at a row that fits worst
                sums[empty] = x[cos.topk(int(empty.sum()), largest=False).indices]
            centres = unit(sums)
        near, cos = _nearest(x, centres)
        if float(cos.double().sum()) > best:
            best, kept = float(cos.double().sum()), near
    assert kept is not None
    return kept


def _starts(x: Tensor, clusters: int, dice: torch.Generator) -> Tensor:
    """k-means++ (Arthur & Vassilvitskii 2007): starts drawn in proportion to the squared distance from earlier ones."""
    chosen = [int(torch.randint(len(x), (1,), generator=dice))]
    least = torch.full((len(x),), torch.inf, dtype=torch.float64)
    for _ in range(clusters - 1):
        least = torch.minimum(least, (1 - x @ x[chosen[-1]]).clamp(min=0).double().cpu())
        odds = least if float(least.sum()) > 0 else torch.ones_like(least)
        at = torch.rand(1, generator=dice, dtype=torch.float64) * odds.sum()  # multinomial is limited to 2^24 rows
        chosen.append(min(int(torch.searchsorted(odds.cumsum(0), at)), len(x) - 1))
    return torch.tensor(chosen)


def _nearest(x: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """[N] number of each row's nearest centre, and [N] its cosine."""
    parts = [(part @ centres.T).max(dim=1) for part in x.split(tile_rows(len(x), len(centres)))]
    return torch.cat([p.indices for p in parts]), torch.cat([p.values for p in parts])


def _table(a: Tensor, b: Tensor) -> Tensor:
    """Contingency table [A, B] float64: how many rows have each pair of values."""
    wide = int(b.max()) + 1
    return (a * wide + b).bincount(minlength=(int(a.max()) + 1) * wide).view(-1, wide).double()


def normalized_mutual_information(a: Tensor, b: Tensor) -> float:
    """Mutual information of two labellings [N] int64, divided by their mean entropy; 1 if both are constant."""
    joint = _table(a, b) / len(a)
    rows, columns = joint.sum(1), joint.sum(0)
    entropies = [float(torch.special.entr(p).sum()) for p in (rows, columns)]
    mutual = sum(entropies) - float(torch.special.entr(joint).sum())
    return max(0.0, mutual / (sum(entropies) / 2)) if sum(entropies) > 0 else 1.0


def adjusted_rand_index(a: Tensor, b: Tensor) -> float:
    """Rand index of two labellings [N] int64, adjusted for chance (Hubert & Arabie 1985): 0 is chance, 1 agreement."""
    table = _table(a, b)
    pairs = [float((n * (n - 1) / 2).sum()) for n in (table, table.sum(1), table.sum(0))]
    chance = pairs[1] * pairs[2] / max(1.0, len(a) * (len(a) - 1) / 2)
    most = (pairs[1] + pairs[2]) / 2
    return (pairs[0] - chance) / (most - chance) if most != chance else 1.0
