"""Weighted k-nearest-neighbour classification: the probe without a training run."""

from __future__ import annotations

import torch
from torch import Tensor

from multicl.evaluation.checks import Ids, codes, features, positive, unit


def knn_accuracy(
    train: Tensor,
    train_labels: Ids,
    test: Tensor,
    test_labels: Ids,
    k: int = 200,
    temperature: float = 0.1,
    chunk: int = 1024,
) -> float:
    """Share of test rows that their k nearest training rows vote right.

    Neighbour i votes for its class with weight exp(cos_i / temperature): InstDisc (Wu et al. 2018, arXiv:1805.01978,
    section 3.4), whose k = 200 the field has kept, at temperature 0.1 for small pictures.

    Args:
        train: [N, D] features; lengths do not matter.
        train_labels: [N] ints or strings.
        test: [M, D].
        test_labels: [M]; a class that training lacks is never right.
        k: neighbours; no more than N are used.
        temperature: of the votes, above 0.
        chunk: test rows at a time; memory is chunk x N.

    Returns:
        Accuracy in [0, 1].

    Raises:
        InputError: shapes that do not fit, NaN, k, temperature or chunk not above 0.
    """
    for name, value in (("k", k), ("temperature", temperature), ("chunk", chunk)):
        positive(name, value)
    train = features("train", train)
    test = features("test", test, like=("train", train)).to(train.dtype)
    labels, truth = (
        y.to(train.device)
        for y in codes(("train_labels", train_labels, len(train)), ("test_labels", test_labels, len(test)))
    )
    classes = int(labels.max()) + 1
    bank, k, right = unit(train), min(k, len(train)), 0
    for part, wanted in zip(torch.split(unit(test), chunk), torch.split(truth, chunk), strict=True):
        cos, index = (part @ bank.T).topk(k, dim=1)  # [c, k], best first
        weights = ((cos - cos[:, :1]) / temperature).exp()  # the shift changes no winner and cannot overflow
        votes = weights.new_zeros(len(part), classes).scatter_add_(1, labels[index], weights)
        right += int((votes.argmax(dim=1) == wanted).sum())
    return right / len(test)
