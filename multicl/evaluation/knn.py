"""Weighted k-nearest-neighbour classification: a probe that needs no training."""

from __future__ import annotations

import torch
from torch import Tensor

from multicl.distributed import World
from multicl.evaluation.checks import Ids, codes, features, positive, unit
from multicl.evaluation.figure import Figure, mean_of
from multicl.evaluation.tiles import by_slices, tile_rows


def knn_accuracy(
    train: Tensor,
    train_labels: Ids,
    test: Tensor,
    test_labels: Ids,
    k: int = 200,
    temperature: float = 0.1,
    chunk: int = 1024,
    world: World | None = None,
) -> Figure:
    """Share of test rows that their k nearest training rows classify correctly, with its interval.

    Neighbour i votes for its class with weight exp(cos_i / temperature): InstDisc (Wu et al. 2018, arXiv:1805.01978,
    section 3.4), whose k = 200 has become standard, with temperature 0.1 for small pictures.

    Args:
        train: [N, D] features; their norms do not matter.
        train_labels: [N] ints or strings.
        test: [M, D].
        test_labels: [M]; a class that training lacks is never right.
        k: number of neighbours; at most N are used.
        temperature: of the votes, above 0.
        chunk: test rows of a tile of similarities; fewer where N is large, so that a tile stays within 16 MB.
        world: ranks that share the test rows; all must call this with the same arguments, and get the same figure.

    Returns:
        Accuracy in [0, 1].

    Raises:
        InputError: shapes that do not fit, NaN, k, temperature or chunk not above 0.
    """
    votes, truth = _vote(train, train_labels, test, test_labels, k, temperature, chunk, world)
    return mean_of(votes == truth)


def knn_labels(
    train: Tensor,
    train_labels: Ids,
    test: Tensor,
    k: int = 200,
    temperature: float = 0.1,
    chunk: int = 1024,
) -> list[int | str]:
    """The label that the neighbours of each test row vote for; arguments and errors as `knn_accuracy`."""
    unknown = torch.zeros(len(test), dtype=torch.int64)
    votes, _ = _vote(train, train_labels, test, unknown, k, temperature, chunk, None)
    values = list(train_labels.tolist() if hasattr(train_labels, "tolist") else train_labels)
    names = list(dict.fromkeys(values))  # numbered in order of first appearance
    return [names[vote] for vote in votes.tolist()]


def _vote(
    train: Tensor, train_labels: Ids, test: Tensor, test_labels: Ids,
    k: int, temperature: float, chunk: int, world: World | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """[M] winning class and [M] true class, numbered in order of first appearance in the training labels."""
    for name, value in (("k", k), ("temperature", temperature), ("chunk", chunk)):
        positive(name, value)
    train = features("train", train)
    test = features("test", test, like=("train", train)).to(train.dtype)
    labels, truth = (
        y.to(train.device)
        for y in codes(("train_labels", train_labels, len(train)), ("test_labels", test_labels, len(test)))
    )
    classes = int(labels.max()) + 1
    bank, asked, k = unit(train), unit(test), min(k, len(train))

    def winners(rows: slice) -> Tensor:
        cos, index = (asked[rows] @ bank.T).topk(k, dim=1)  # [c, k], best first
        weights = ((cos - cos[:, :1]) / temperature).exp()  # the shift changes no winner and avoids overflow
        votes = weights.new_zeros(len(cos), classes).scatter_add_(1, labels[index], weights)
        return votes.argmax(dim=1)

    return by_slices(len(test), tile_rows(chunk, len(bank)), winners, truth[:0], world or World()), truth
