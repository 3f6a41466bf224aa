"""How embeddings lie in their space: alignment, uniformity, effective rank, modality gap."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from multicl.evaluation.checks import features, paired, positive, unit
from multicl.types import InputError


def alignment(a: Tensor, b: Tensor, alpha: float = 2) -> float:
    """Mean of |a_i - b_i|^alpha over positive pairs of unit vectors; 0 is perfect, 2 is chance (alpha = 2).

    Wang & Isola 2020, arXiv:2005.10242, section 4.1.1.

    Args:
        a: [N, D]; normalised here.
        b: [N, D], row i the positive of a's.
        alpha: above 0.

    Raises:
        InputError: shapes that do not fit, NaN, alpha not above 0.
    """
    positive("alpha", alpha)
    a, b = paired("a", a, "b", b)
    return float((unit(a) - unit(b)).norm(dim=1).pow(alpha).mean())


def uniformity(x: Tensor, t: float = 2, chunk: int = 1024) -> float:
    """Log of the mean of exp(-t |x_i - x_j|^2) over pairs i < j of unit vectors; 0 is collapse, lower is more even.

    Wang & Isola 2020, arXiv:2005.10242, section 4.1.2.

    Args:
        x: [N, D]; normalised here.
        t: above 0.
        chunk: rows at a time; memory is chunk x N.

    Raises:
        InputError: not [N, D], NaN, fewer than two rows, t or chunk not above 0.
    """
    positive("t", t)
    positive("chunk", chunk)
    x = unit(features("x", x))
    n = len(x)
    if n < 2:
        raise InputError("x has one row; uniformity is about pairs")
    length = x.square().sum(dim=1)  # 1, but for a row of zeros
    logs = []
    for at in range(0, n, chunk):
        rows, others = x[at : at + chunk], x[at:]  # from the diagonal on
        distance = (length[at : at + chunk, None] + length[at:] - 2 * rows @ others.T).clamp(min=0)
        later = torch.ones_like(distance, dtype=torch.bool).triu(diagonal=1)
        logs.append((-t * distance).masked_fill(~later, -torch.inf).flatten().logsumexp(dim=0))
    return float(torch.stack(logs).logsumexp(dim=0)) - math.log(n * (n - 1) / 2)


def effective_rank(x: Tensor) -> float:
    """exp(entropy of the singular values' shares): how many directions x really uses, in [1, min(N, D)].

    Roy & Vetterli 2007, "The effective rank", definition 1. Neither centred nor normalised here.

    Args:
        x: [N, D].

    Raises:
        InputError: not [N, D], NaN, or all zeros.
    """
    x = features("x", x)
    values = torch.linalg.svdvals(x.double() if x.device.type != "mps" else x)
    if values.sum() == 0:
        raise InputError("x is all zeros; it has no rank")
    return float(torch.special.entr(values / values.sum()).sum().exp())


def modality_gap(a: Tensor, b: Tensor) -> float:
    """Distance between the mean unit vectors of two modalities, in [0, 2]; 0: they share a centre.

    Liang et al. 2022, arXiv:2203.02053, section 4.2.

    Args:
        a: [N, D]; normalised here.
        b: [M, D].

    Raises:
        InputError: shapes that do not fit, NaN.
    """
    a = features("a", a)
    b = features("b", b, like=("a", a))
    return float((unit(a).mean(dim=0) - unit(b).mean(dim=0)).norm())
