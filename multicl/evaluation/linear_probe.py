"""Linear probe: multinomial logistic regression on frozen features."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from multicl.evaluation.checks import Ids, codes, features
from multicl.evaluation.figure import Figure, mean_of
from multicl.types import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
WIDEST = 4096
"""Largest width at which features are decorrelated first, which takes a square matrix of that width."""


class Probe(NamedTuple):
    """Result of a linear probe."""

    accuracy: Figure
    """Share of test rows that are classified correctly, in [0, 1], with its interval."""
    strength: float
    """The L2 strength chosen on the validation split."""
    validation_accuracy: float
    """Share of validation rows that are classified correctly at that strength."""


def logistic_regression(
    x: Tensor, y: Tensor, classes: int, strength: float, start: Tensor | None = None, max_iter: int = 500
) -> Tensor:
    """Minimise mean cross-entropy + strength / 2 * |W|^2 with L-BFGS; the bias is not penalised.

    Equivalent to scikit-learn's `LogisticRegression(C=1 / (N * strength))`. Correlated features, such as neighbouring
    pixels, are decorrelated first, so that few iterations suffice.

    Args:
        x: [N, D] features.
        y: [N] int64 classes.
        classes: number of classes.
        strength: of the L2 penalty, relative to the mean loss of a row.
        start: [D + 1, classes] a solution to start from.
        max_iter: iterations of L-BFGS at most.

    Returns:
        [D + 1, classes]: weights, and the bias in the last row.
    """
    return _fitted(x, y, classes, strength, _gram(x), start, max_iter)


def _fitted(
    x: Tensor, y: Tensor, classes: int, strength: float, gram: Tensor | None, start: Tensor | None, max_iter: int
) -> Tensor:
    """`logistic_regression`, preconditioned: theta = root^-T v, and the Hessian in v is close to the identity."""
    root = None if gram is None else _root(gram, classes, strength).to(x.dtype)
    truth = F.one_hot(y, classes).to(x.dtype)

    def theta(v: Tensor) -> Tensor:
        return v if root is None else torch.linalg.solve_triangular(root.T, v, upper=True)

    first = x.new_zeros(x.shape[1] + 1, classes) if start is None else start if root is None else root.T @ start
    v = first.clone(memory_format=torch.contiguous_format)
    tiny = torch.finfo(x.dtype).eps
    solver = torch.optim.LBFGS(
        [v],
        max_iter=max_iter,
        history_size=20,
        tolerance_grad=max(10 * tiny, 1e-9),
        tolerance_change=tiny / 100,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        w = theta(v)
        log_p = torch.addmm(w[-1], x, w[:-1]).log_softmax(dim=1)
        # the gradient by hand: on a CPU autograd's thin x.T @ g takes ten times as long as g.T @ x
        g = (log_p.exp() - truth) / len(x)
        grad = torch.cat([(g.T @ x).T + strength * w[:-1], g.sum(dim=0, keepdim=True)])
        v.grad = (grad if root is None else torch.linalg.solve_triangular(root, grad, upper=False)).contiguous()
        return F.nll_loss(log_p, y) + strength / 2 * w[:-1].square().sum()

    solver.step(closure)
    return theta(v)


def _gram(x: Tensor) -> Tensor | None:
    """[D + 1, D + 1] float64: mean products of the features and a constant 1, the bias; None if D is above WIDEST."""
    if x.shape[1] > WIDEST:
        return None
    gram = x.new_ones(x.shape[1] + 1, x.shape[1] + 1, dtype=torch.float64)
    gram[:-1, :-1] = 0
    for part in x.split(WIDEST):  # in float32, products of few or wide rows are not positive definite
        gram[:-1, :-1] += part.double().T @ part.double() / len(x)
    gram[:-1, -1] = gram[-1, :-1] = x.mean(dim=0)
    return gram


def _root(gram: Tensor, classes: int, strength: float) -> Tensor:
    """Lower Cholesky factor of the approximate Hessian, p (1 - p) gram + strength, at p = 1 / classes."""
    penalty = torch.full_like(gram[0], max(strength, 1e-8 * float(gram.diagonal().mean())))
    penalty[-1] = 1e-8
    root: Tensor = torch.linalg.cholesky((1 - 1 / classes) / classes * gram + penalty.diag())
    return root


def linear_probe(
    train: Tensor,
    train_labels: Ids,
    test: Tensor,
    test_labels: Ids,
    validation: float = 0.1,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
    max_iter: int = 500,
) -> Probe:
    """Accuracy of logistic regression on standardized features, with an L2 strength chosen without the test set.

    A stratified share of the training rows is held out to choose the strength that classifies it best (the strongest
    of equals). The classifier is then fitted again on all training rows: the protocol of CLIP (Radford et al. 2021,
    arXiv:2103.00020, appendix A.3). Features are standardized with the statistics of the rows that are fitted.

    Args:
        train: [N, D].
        train_labels: [N] ints or strings, of at least two classes.
        test: [M, D].
        test_labels: [M]; a class that training lacks is never right.
        validation: share of the training rows held out to choose the strength, in (0, 1).
        strengths: candidates, from 0 up; see `logistic_regression`.
        seed: of the split.
        max_iter: iterations of each fit at most.

    Raises:
        InputError: shapes that do not fit, NaN, fewer than two classes, no strength or a negative one, or a
            validation split that is out of range or leaves a side empty.
    """
    train = features("train", train)
    test = features("test", test, like=("train", train)).to(train.dtype)
    y, truth = (
        labels.to(train.device)
        for labels in codes(("train_labels", train_labels, len(train)), ("test_labels", test_labels, len(test)))
    )
    classes = int(y.max()) + 1
    if classes < 2:
        raise InputError("train_labels holds a single class; a probe needs at least two")
    if not strengths or min(strengths) < 0:
        raise InputError(f"strengths must be one or more numbers, each 0 or more, got {list(strengths)}")
    if not 0 < validation < 1:
        raise InputError(f"validation must lie between 0 and 1, got {validation}")
    held = _stratified(y.cpu(), validation, seed).to(train.device)
    if not held.any() or held.all():
        raise InputError(f"validation={validation} of {len(train)} rows leaves no rows on one side")

    fit, check = standardize(train[~held], train[held])
    solutions: list[tuple[float, float]] = []
    theta: Tensor | None = None
    gram = _gram(fit)
    for strength in sorted(strengths, reverse=True):  # strong to weak, each from the last solution: few steps
        theta = _fitted(fit, y[~held], classes, strength, gram, theta, max_iter)
        solutions.append((float(_hits(theta, check, y[held]).double().mean()), strength))
    validated, best = max(solutions)  # the strongest of equally accurate ones

    fit, check = standardize(train, test)
    theta = logistic_regression(fit, y, classes, best, max_iter=max_iter)
    return Probe(mean_of(_hits(theta, check, truth)), best, validated)


def standardize(fit: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Both matrices, standardized column by column with the mean and standard deviation of `fit`."""
    mean, std = fit.mean(dim=0), fit.std(dim=0, correction=0)
    std = torch.where(std > torch.finfo(std.dtype).eps * mean.abs().clamp(min=1e-12), std, 1)  # constant columns
    return (fit - mean) / std, (other - mean) / std


def _hits(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """[N] bool: whether a row is classified correctly."""
    return torch.addmm(theta[-1], x, theta[:-1]).argmax(dim=1) == y


def _stratified(y: Tensor, share: float, seed: int) -> Tensor:
    """[N] bool, true for `share` of the rows: evenly spaced after sorting by class, in random order within a class."""
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    order = order[y[order].argsort(stable=True)]
    steps = (torch.arange(len(y) + 1, dtype=torch.float64) * share + 0.5).floor()
    mask = torch.zeros(len(y), dtype=torch.bool)
    mask[order] = steps.diff() > 0
    return mask
