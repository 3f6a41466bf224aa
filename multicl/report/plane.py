"""Positions of things on a page's maps, and their nearest neighbours in the space itself."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from multicl.report.items import Item
from multicl.types import InputError

NEAR = 3
"""Neighbours shown of each other node; if there is only one node, twice as many of it."""


def _vectors(items: Sequence[Item]) -> tuple[Tensor, Tensor]:
    """Unit vectors [N, D] float64, and the node of each as a number [N]."""
    rows = [torch.as_tensor(item.vector).detach().to("cpu", torch.float64) for item in items]
    for item, row in zip(items, rows, strict=True):
        if row.shape != rows[0].shape or row.ndim != 1:
            raise InputError(f"{item.node} {item.label!r} has a vector {list(row.shape)}, others {list(rows[0].shape)}")
        if not torch.isfinite(row).all():
            raise InputError(f"{item.node} {item.label!r} has a vector with NaN or infinite values")
    nodes = {node: i for i, node in enumerate(dict.fromkeys(item.node for item in items))}
    return F.normalize(torch.stack(rows), dim=1), torch.tensor([nodes[item.node] for item in items])


def maps_of(items: Sequence[Item], umap: bool = False) -> list[dict[str, Any]]:
    """Maps of the items: as they are; of several nodes, also without each node's mean (no modality gap); by UMAP.

    Args:
        umap: draw the last one, too, if umap-learn is installed and there are more than 30 items.
    """
    if not items:
        return []
    x, node = _vectors(items)
    plain, share = _plane(x)
    found: list[dict[str, Any]] = [{"name": "as they are", "share": round(share, 4), "at": _numbers(plain)}]
    if int(node.max()) > 0:
        centred = x.clone()
        for n in torch.unique(node):
            centred[node == n] -= x[node == n].mean(dim=0)
        apart, share = _plane(centred)
        apart *= torch.where((plain * apart).sum(dim=0) < 0, -1, 1)  # an axis's sign is arbitrary: as before
        found.append({"name": "each modality centred", "share": round(share, 4), "at": _numbers(apart)})
    if umap and len(items) > 30 and find_spec("umap"):
        found.append({"name": "neighbourhoods (UMAP)", "share": None, "at": _numbers(_umap(x))})
    return found


def _numbers(at: Tensor) -> list[float]:
    return [round(v, 4) + 0.0 for v in _fit(at).flatten().tolist()]


def _umap(x: Tensor) -> Tensor:
    """[N, 2] by UMAP (McInnes et al. 2018, arXiv:1802.03426), seeded: the same every time."""
    cos, near = (x @ x.T).topk(15, dim=1)  # itself first; umap's own search compiles for 6 s
    known = near.numpy(), (1 - cos.float()).clamp(min=0).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # TensorFlow is not needed
        from umap import UMAP

    with warnings.catch_warnings():  # of the libraries that it uses
        warnings.simplefilter("ignore")
        layout = UMAP(metric="cosine", precomputed_knn=known, random_state=0, n_jobs=1)
        return torch.from_numpy(layout.fit_transform(x.numpy())).double()


def _plane(x: Tensor) -> tuple[Tensor, float]:
    """The first two principal components [N, 2], and their share of the variance."""
    x = x - x.mean(dim=0)
    _, values, axes = torch.linalg.svd(x, full_matrices=False)
    at = F.pad(x @ axes[:2].T, (0, max(0, 2 - len(axes))))
    at *= torch.where(at.gather(0, at.abs().argmax(dim=0, keepdim=True)) < 0, -1, 1)  # the same signs every time
    power = values.square()
    return at, float(power[:2].sum() / power.sum().clamp(min=1e-12))


def _fit(at: Tensor) -> Tensor:
    """Scale points into [-1, 1]: the middle of their bounding box at 0, one scale for both axes."""
    low, high = at.amin(dim=0), at.amax(dim=0)
    return (at - (low + high) / 2) / ((high - low).max() / 2).clamp(min=1e-12)


def near_of(items: Sequence[Item]) -> list[list[list[float]]]:
    """[number, cosine] of each item's nearest in every other node (in its own if alone), in the space itself."""
    if not items:
        return []
    x, node = _vectors(items)
    cos = x @ x.T
    near: list[list[list[float]]] = [[] for _ in items]
    if int(node.max()) == 0 and len(items) > 1:
        values, index = cos.fill_diagonal_(-torch.inf).topk(min(2 * NEAR, len(items) - 1), dim=1)
        return [
            [[j, round(v, 3)] for j, v in zip(*row, strict=True)]
            for row in zip(index.tolist(), values.tolist(), strict=True)
        ]
    for n in torch.unique(node):
        members = (node == n).nonzero()[:, 0]
        values, index = cos[:, members].topk(min(NEAR, len(members)), dim=1)
        for i in (node != n).nonzero()[:, 0].tolist():
            pairs = zip(members[index[i]].tolist(), values[i].tolist(), strict=True)
            near[i] += [[j, round(value, 3)] for j, value in pairs]
    return near
