"""Few-shot probe: how accurate is a classifier that was trained on a handful of rows per class?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from multicl.evaluation.checks import Ids, codes, features, positive
from multicl.evaluation.figure import mean_of
from multicl.evaluation.linear_probe import logistic_regression, standardize
from multicl.types import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

USUAL = (1, 5, 10)
"""Training rows per class, unless others are asked for."""


def few_shot(
    train: Tensor,
    train_labels: Ids,
    test: Tensor,
    test_labels: Ids,
    shots: Sequence[int] | None = None,
    repeats: int = 10,
    strength: float = 0.01,
    seed: int = 0,
) -> Mapping[str, float]:
    """Accuracy of logistic regression trained on a few rows of each class, averaged over several choices of rows.

    The penalty is fixed, because so few rows leave none for a validation split (CLIP, arXiv:2103.00020, section 3.1.5,
    does the same). Features are standardized with the statistics of all training rows, which needs no labels.

    Args:
        train: [N, D]. train_labels: [N] ints or strings, of at least two classes.
        test: [M, D]. test_labels: [M].
        shots: numbers of training rows per class; None: those of 1, 5 and 10 that the smallest class has.
        repeats: choices of rows, each from its own seed: seed, seed + 1, ...
        strength: of the L2 penalty; see `logistic_regression`.

    Returns:
        "few_shot_K" for each K, with the interval over test rows, and, of several choices, "few_shot_K_deviation",
        their standard deviation.

    Raises:
        InputError: shapes that do not fit, NaN, a single class, or a class with fewer rows than shots.
    """
    positive("repeats", repeats)
    train = features("train", train)
    test = features("test", test, like=("train", train)).to(train.dtype)
    given = codes(("train_labels", train_labels, len(train)), ("test_labels", test_labels, len(test)))
    y, truth = given[0], given[1].to(train.device)
    counts = y.bincount()
    if len(counts) < 2:
        raise InputError("train_labels holds a single class; a probe needs at least two")
    x, asked = standardize(train, test)
    found: dict[str, float] = {}
    smallest = int(counts.min())
    for k in [k for k in USUAL if k <= smallest] if shots is None else shots:
        positive("shots", k)
        if smallest < k:
            raise InputError(f"a class of train_labels has {smallest} rows, too few for {k} shots: give fewer shots")
        hits = torch.zeros(repeats, len(test), dtype=torch.float64)
        for at in range(repeats):
            shown = _some_of_each(y, k, seed + at)
            theta = logistic_regression(x[shown], y[shown].to(x.device), len(counts), strength)
            hits[at] = (torch.addmm(theta[-1], asked, theta[:-1]).argmax(dim=1) == truth).cpu()
        found[f"few_shot_{k}"] = mean_of(hits.mean(0))
        if repeats > 1:
            found[f"few_shot_{k}_deviation"] = float(hits.mean(1).std())
    return found


def _some_of_each(y: Tensor, k: int, seed: int) -> Tensor:
    """Positions of k random rows of every class, grouped by class."""
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    return torch.cat([order[y[order] == c][:k] for c in range(int(y.max()) + 1)])
