"""The reference for correctness: every loss in plain float64, a block of rows at a time so that any batch fits.

A row's term depends on that row and all keys only, so the gradients of the blocks add up to that of the loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.inputs import Inputs


def reference(loss: str, x: Inputs, block: int = 512) -> tuple[float, list[Tensor]]:
    """The value of the loss of this name, and its gradients with respect to `x.learnt`. Give it float64 inputs."""
    terms = {
        "nt_xent": _nt_xent,
        "info_nce": _info_nce,
        "info_nce_one": _info_nce_one,
        "sup_con": _sup_con,
        "sigmoid": _sigmoid,
    }[loss]
    value = 0.0
    grads = [torch.zeros_like(leaf) for leaf in x.learnt]
    for term in terms(x, block):
        value += term.item()
        for total, grad in zip(grads, torch.autograd.grad(term, x.learnt), strict=True):
            total += grad
    return value, grads


def differences(
    value: float, grads: Sequence[Tensor], right: float, right_grads: Sequence[Tensor]
) -> tuple[float, float]:
    """The relative difference of the loss, and the largest relative difference (by norm) of the gradients."""
    far = [(g.double() - r).norm().item() / r.norm().item() for g, r in zip(grads, right_grads, strict=True)]
    return abs(value - right) / abs(right), max(far)


def _blocks(n: int, block: int) -> Iterator[Tensor]:
    return iter(torch.arange(n).split(block))


def _nt_xent(x: Inputs, block: int) -> Iterator[Tensor]:
    n = 2 * len(x.a)
    for rows in _blocks(n, block):
        z = F.normalize(torch.cat([x.a, x.b]), dim=1)
        logits = z[rows] @ z.T / x.temperature.detach()
        logits = logits.masked_fill(rows[:, None] == torch.arange(n), -torch.inf)
        yield F.cross_entropy(logits, (rows + n // 2) % n, reduction="sum") / n


def _one_way(a: Tensor, b: Tensor, temperature: Tensor, block: int) -> Iterator[Tensor]:
    for rows in _blocks(len(a), block):
        logits = F.normalize(a[rows], dim=1) @ F.normalize(b, dim=1).T / temperature
        yield F.cross_entropy(logits, rows, reduction="sum") / len(a)


def _info_nce(x: Inputs, block: int) -> Iterator[Tensor]:
    for term in _one_way(x.a, x.b, x.temperature, block):
        yield term / 2
    for term in _one_way(x.b, x.a, x.temperature, block):
        yield term / 2


def _info_nce_one(x: Inputs, block: int) -> Iterator[Tensor]:
    return _one_way(x.a, x.b, x.temperature.detach(), block)


def _sup_con(x: Inputs, block: int) -> Iterator[Tensor]:
    n = 2 * len(x.a)
    for rows in _blocks(n, block):
        z = F.normalize(torch.cat([x.a, x.b]), dim=1)
        logits = z[rows] @ z.T / x.temperature.detach()
        itself = rows[:, None] == torch.arange(n)
        positive = (x.labels[rows, None] == x.labels) & ~itself
        lse = logits.masked_fill(itself, -torch.inf).logsumexp(1)
        yield (lse - logits.masked_fill(~positive, 0.0).sum(1) / positive.sum(1)).sum() / n


def _sigmoid(x: Inputs, block: int) -> Iterator[Tensor]:
    n = len(x.a)
    for rows in _blocks(n, block):
        cosine = F.normalize(x.a[rows], dim=1) @ F.normalize(x.b, dim=1).T
        sign = torch.where(rows[:, None] == torch.arange(n), 1.0, -1.0)
        yield -F.logsigmoid(sign * (x.scale * cosine + x.bias)).sum() / n
