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
"""Features up to which they are set apart: that takes a square matrix of so many."""


class Probe(NamedTuple):
    """What a linear probe found."""

    accuracy: Figure
    """Share of test rows that are right, in [0, 1], with its interval."""
    strength: float
    """The L2 strength chosen on the validation split."""
    validation_accuracy: float
    """Share of validation rows that are right at that strength."""


def logistic_regression(
    x: Tensor, y: Tensor, classes: int, strength: float, start: Tensor | None = None, max_iter: int = 500
) -> Tensor:
    """Minimise mean cross-entropy + strength / 2 * |W|^2 with L-BFGS; the bias is not penalised.

    The same as scikit-learn's `LogisticRegression(C=1 / (N * strength))`; features that go together, as
    neighbouring pixels do, are first set apart, so that few steps are enough.

    Args:
        x: [N, D] features.
        y: [N] int64 classes.
        classes: how many.
        strength: of the penalty, per row.
        start: [D + 1, classes] a solution to start from.
        max_iter: of L-BFGS.

    Returns:
        [D + 1, classes]: weights, and the bias in the last row.
    """
    return _fitted(x, y, classes, strength, _gram(x), start, max_iter)


def _fitted(
    x: Tensor, y: Tensor, classes: int, strength: float, gram: Tensor | None, start: Tensor | None, max_iter: int
) -> Tensor:
    """`logistic_regression`, in coordinates v of theta = root^-T v, in which the loss is about as curved everywhere."""
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
        # by hand: autograd's x.T @ g, thin as it is, takes ten times as long on a CPU as g.T @ x
        g = (log_p.exp() - truth) / len(x)
        grad = torch.cat([(g.T @ x).T + strength * w[:-1], g.sum(dim=0, keepdim=True)])
        v.grad = (grad if root is None else torch.linalg.solve_triangular(root, grad, upper=False)).contiguous()
        return F.nll_loss(log_p, y) + strength / 2 * w[:-1].square().sum()

    solver.step(closure)
    return theta(v)


def _gram(x: Tensor) -> Tensor | None:
    """[D + 1, D + 1] float64: mean products of features and of one more, always 1; None where D is too large."""
    if x.shape[1] > WIDEST:
        return None
    gram = x.new_ones(x.shape[1] + 1, x.shape[1] + 1, dtype=torch.float64)
    gram[:-1, :-1] = 0
    for part in x.split(WIDEST):  # in float64: float32's products of few or wide rows are not positive definite
        gram[:-1, :-1] += part.double().T @ part.double() / len(x)
    gram[:-1, -1] = gram[-1, :-1] = x.mean(dim=0)
    return gram


def _root(gram: Tensor, classes: int, strength: float) -> Tensor:
    """Lower triangular: its square is about the Hessian, p (1 - p) gram + strength, at p = 1 / classes."""
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
    """Accuracy of logistic regression on standardized features, its L2 strength chosen without the test set.

    A stratified share of the training rows is held out, the strength that classifies it best is kept (of equal ones
    the strongest), and the classifier is fitted again on all of the training rows: the protocol of CLIP (Radford et
    al. 2021, arXiv:2103.00020, appendix A.3). Means and deviations are those of the rows it is fitted on.

    Args:
        train: [N, D].
        train_labels: [N] ints or strings, of at least two classes.
        test: [M, D].
        test_labels: [M]; a class that training lacks is never right.
        validation: share of the training rows that chooses the strength, in (0, 1).
        strengths: to choose from; see `logistic_regression`.
        seed: of the split.
        max_iter: of each fit.

    Raises:
        InputError: shapes that do not fit, NaN, fewer than two classes, or nothing left to validate on or fit.
    """
    train = features("train", train)
    test = features("test", test, like=("train", train)).to(train.dtype)
    y, truth = (
        labels.to(train.device)
        for labels in codes(("train_labels", train_labels, len(train)), ("test_labels", test_labels, len(test)))
    )
    classes = int(y.max()) + 1
    if classes < 2:
        raise InputError("train_labels holds one class; a probe needs at least two")
    if not strengths or min(strengths) < 0:
        raise InputError(f"strengths must be at least one number from 0 up, got {list(strengths)}")
    if not 0 < validation < 1:
        raise InputError(f"validation must lie between 0 and 1, got {validation}")
    held = _stratified(y.cpu(), validation, seed).to(train.device)
    if not held.any() or held.all():
        raise InputError(f"validation {validation} of {len(train)} rows leaves a side empty")

    fit, check = standardize(train[~held], train[held])
    solutions: list[tuple[float, float]] = []
    theta: Tensor | None = None
    gram = _gram(fit)
    for strength in sorted(strengths, reverse=True):  # strong to weak, each from the last: few iterations
        theta = _fitted(fit, y[~held], classes, strength, gram, theta, max_iter)
        solutions.append((float(_hits(theta, check, y[held]).double().mean()), strength))
    validated, best = max(solutions)  # of equal accuracies the strongest

    fit, check = standardize(train, test)
    theta = logistic_regression(fit, y, classes, best, max_iter=max_iter)
    return Probe(mean_of(_hits(theta, check, truth)), best, validated)


def standardize(fit: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Both with the mean and deviation of the first at 0 and 1, a column each."""
    mean, std = fit.mean(dim=0), fit.std(dim=0, correction=0)
    std = torch.where(std > torch.finfo(std.dtype).eps * mean.abs().clamp(min=1e-12), std, 1)  # a constant says nothing
    return (fit - mean) / std, (other - mean) / std


def _hits(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """[N] bool: the row is classified right."""
    return torch.addmm(theta[-1], x, theta[:-1]).argmax(dim=1) == y


def _stratified(y: Tensor, share: float, seed: int) -> Tensor:
    """[N] bool, `share` of the rows: evenly spaced in an order that is sorted by class and random within it."""
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    order = order[y[order].argsort(stable=True)]
    steps = (torch.arange(len(y) + 1, dtype=torch.float64) * share + 0.5).floor()
    mask = torch.zeros(len(y), dtype=torch.bool)
    mask[order] = steps.diff() > 0
    return mask
