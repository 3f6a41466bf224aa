"""Reference losses as their papers write them: float64, a row at a time, whole matrices, no tricks."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def units(z: Tensor) -> Tensor:
    """Rows of length 1; a zero vector stays zero and has no gradient."""
    return torch.stack([v * 0 if v.detach().norm() < 1e-6 else v / v.norm() for v in z]) if len(z) else z


def similarities(a: Tensor, b: Tensor, cosine: bool) -> Tensor:
    return units(a) @ units(b).T if cosine else a @ b.T


def mean(terms: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(terms).mean() if terms else 0.0 * like.sum()


def sup_con(z: Tensor, labels: list[int], temperature: Tensor, cosine: bool = True) -> Tensor:
    """Equation 2 of arXiv:2004.11362."""
    return sup_con_memory(z, labels, temperature, z[:0], [], cosine)


def sup_con_memory(
    z: Tensor, labels: list[int], temperature: Tensor, keys: Tensor, key_labels: list[int], cosine: bool = True
) -> Tensor:
    """The same, with keys of earlier steps in the sums, too (arXiv:1912.06798)."""
    every, own = torch.cat([z, keys]), [*labels, *key_labels]
    logits, terms = similarities(z, every, cosine) / temperature, []
    for i in range(len(z)):
        others = [j for j in range(len(every)) if j != i]
        positives = [j for j in others if own[j] == labels[i] >= 0]
        if positives:
            below = torch.logsumexp(logits[i, others], 0)
            terms.append(-sum(logits[i, p] - below for p in positives) / len(positives))
    return mean(terms, z)


def nt_xent(z1: Tensor, z2: Tensor, temperature: Tensor, cosine: bool = True) -> Tensor:
    """Equation 1 of arXiv:2002.05709."""
    n = len(z1)
    logits, terms = similarities(torch.cat([z1, z2]), torch.cat([z1, z2]), cosine) / temperature, []
    for i in range(2 * n):
        others = [k for k in range(2 * n) if k != i]
        terms.append(torch.logsumexp(logits[i, others], 0) - logits[i, (i + n) % (2 * n)])
    return mean(terms, z1)


def info_nce(a: Tensor, b: Tensor, temperature: Tensor, cosine: bool = True) -> Tensor:
    """Equation 4 of arXiv:1807.03748, both ways."""
    logits = similarities(a, b, cosine) / temperature
    there = [torch.logsumexp(logits[i], 0) - logits[i, i] for i in range(len(a))]
    back = [torch.logsumexp(logits[:, i], 0) - logits[i, i] for i in range(len(a))]
    return (mean(there, a) + mean(back, a)) / 2


def decoupled(z1: Tensor, z2: Tensor, temperature: Tensor, cosine: bool = True) -> Tensor:
    """L_DC of arXiv:2110.06848; both views of the other rows are negatives."""
    n = len(z1)
    logits, terms = similarities(torch.cat([z1, z2]), torch.cat([z1, z2]), cosine) / temperature, []
    for i in range(2 * n):
        negatives = [k for k in range(2 * n) if k % n != i % n]
        if negatives:
            terms.append(torch.logsumexp(logits[i, negatives], 0) - logits[i, (i + n) % (2 * n)])
    return mean(terms, z1)


def hard_negative(
    z1: Tensor, z2: Tensor, temperature: Tensor, beta: float = 1.0, tau_plus: float = 0.1, cosine: bool = True
) -> Tensor:
    """The authors' code, https://github.com/joshr17/HCL (image/main.py), a row at a time."""
    n = len(z1)
    exp, terms = (similarities(torch.cat([z1, z2]), torch.cat([z1, z2]), cosine) / temperature).exp(), []
    for i in range(2 * n):
        neg, pos = exp[i, [k for k in range(2 * n) if k % n != i % n]], exp[i, (i + n) % (2 * n)]
        if not len(neg):
            continue
        imp = (beta * neg.log()).exp()
        reweight_neg = (imp * neg).sum() / imp.mean()
        ng = (-tau_plus * len(neg) * pos + reweight_neg) / (1 - tau_plus)
        floor = (len(neg) * math.e ** (-1 / temperature)).reshape(())
        terms.append(-torch.log(pos / (pos + torch.maximum(ng, floor))))
    return mean(terms, z1)


def sigmoid_loss(a: Tensor, b: Tensor, scale: Tensor, bias: Tensor, cosine: bool = True) -> Tensor:
    """Section 3.2 of arXiv:2303.15343."""
    logits, terms = similarities(a, b, cosine) * scale + bias, []
    for i in range(len(a)):
        y = torch.tensor([1.0 if j == i else -1.0 for j in range(len(b))], dtype=a.dtype)
        terms.append(torch.log1p((-y * logits[i]).exp()).sum())
    return mean(terms, a)


def margin_contrastive(a: Tensor, b: Tensor, similar: list[bool], margin: float = 1.0) -> Tensor:
    """Hadsell, Chopra and LeCun 2006, equation 4."""
    terms = []
    for i in range(len(a)):
        square = (a[i] - b[i]).square().sum()
        if similar[i]:
            terms.append(square / 2)
        else:
            distance = square.sqrt() if square > 0 else square
            terms.append((margin - distance).square() / 2 if distance < margin else 0 * square)
    return mean(terms, a)


def co_sent(a: Tensor, b: Tensor, scores: list[float], scale: float) -> Tensor:
    """Over all pairs of rows in which one has the higher score; NaN is never higher or lower."""
    cos = [similarities(a[i : i + 1], b[i : i + 1], cosine=True)[0, 0] for i in range(len(a))]
    terms = [scale * (cos[j] - cos[i]) for i, s in enumerate(scores) for j, t in enumerate(scores) if s > t]
    return torch.logsumexp(torch.stack([torch.zeros_like(cos[0]), *terms]), 0)
