import sys

import pytest
import torch

from multicl.evaluation import linear_probe, logistic_regression
from multicl.types import InputError

sklearn_linear = pytest.importorskip("sklearn.linear_model")


def blobs(n, seed, classes=4, width=6, spread=1.5):
    """Rows around one centre a class, columns of very unequal scale, one of them constant."""
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    draw = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    x = centres[y] + spread * torch.randn(n, width, generator=draw, dtype=torch.float64)
    x = x * torch.logspace(-2, 2, width, dtype=torch.float64) + 5
    return torch.cat([x, torch.full((n, 1), 3.3, dtype=torch.float64)], dim=1), y


@pytest.mark.parametrize("strength", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_fit_is_scikit_learns(strength, dtype):
    x, y = blobs(200, 0)
    x = ((x - x.mean(0)) / x.std(0).clamp(min=1e-6)).to(dtype)
    theta = logistic_regression(x, y, 4, strength)
    peer = sklearn_linear.LogisticRegression(C=1 / (len(x) * strength), tol=1e-8, max_iter=5000)
    peer.fit(x.double().numpy(), y.numpy())
    torch.testing.assert_close(theta[:-1].T.double(), torch.from_numpy(peer.coef_), atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(
        (x @ theta[:-1] + theta[-1]).softmax(1).double(),
        torch.from_numpy(peer.predict_proba(x.double().numpy())),
        atol=1e-3,
        rtol=0,
    )


def test_features_that_go_together_or_are_too_many_to_be_set_apart(monkeypatch):
    x, y = blobs(200, 0)
    x = (x - x.mean(0)) / x.std(0).clamp(min=1e-6)
    mixed = x @ torch.randn(7, 30, generator=torch.Generator().manual_seed(3), dtype=torch.float64)  # of rank 6
    apart = logistic_regression(mixed, y, 4, 1e-3)
    start = logistic_regression(mixed, y, 4, 1e-1)
    torch.testing.assert_close(logistic_regression(mixed, y, 4, 1e-3, start), apart, atol=1e-5, rtol=1e-5)
    monkeypatch.setattr(sys.modules[linear_probe.__module__], "WIDEST", 29)
    torch.testing.assert_close(logistic_regression(mixed, y, 4, 1e-3), apart, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logistic_regression(mixed, y, 4, 1e-3, start), apart, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_few_rows_of_wide_features_that_lie_in_few_directions(classes):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(200, 1, generator=g) @ torch.randn(1, 1500, generator=g) + 1e-3
    y = torch.arange(200) % classes
    assert 0 <= linear_probe(x[:150], y[:150], x[150:], y[150:], max_iter=20).accuracy <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_accuracy_is_scikit_learns_at_the_chosen_strength(dtype):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    (train, y), (test, truth) = blobs(300, 0), blobs(200, 1)
    train, test = train.to(dtype), test.to(dtype)
    got = linear_probe(train, y, test, truth)
    logistic = sklearn_linear.LogisticRegression(C=1 / (len(train) * got.strength), tol=1e-8, max_iter=5000)
    peer = make_pipeline(StandardScaler(), logistic)
    peer.fit(train.double().numpy(), y.numpy())
    assert got.accuracy == pytest.approx(peer.score(test.double().numpy(), truth.numpy()), abs=0.006)
    assert 0.5 < got.accuracy < 1
    names = [f"class {c}" for c in y], [f"class {c}" for c in truth]
    assert linear_probe(train, names[0], test, names[1]) == got


def test_the_test_set_chooses_nothing():
    """With labels that mean nothing in test, the chosen strength stays that of the true ones."""
    (train, y), (test, truth) = blobs(120, 0), blobs(80, 1)
    strict = linear_probe(train, y, test, truth)
    random = linear_probe(train, y, test, truth.roll(1))
    assert strict.strength == random.strength
    assert strict.validation_accuracy == random.validation_accuracy
    assert random.accuracy < strict.accuracy


def test_noise_asks_for_a_strong_penalty():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(80, 60, generator=draw)
    y = (x[:, 0] + 0.5 * torch.randn(80, generator=draw) > 0).long()
    assert linear_probe(x, y, x, y, validation=0.4).strength > 1e-3


def test_the_split_is_stratified_and_seeded():
    from multicl.evaluation.linear_probe import _stratified

    y = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    mask = _stratified(y, 0.1, seed=0)
    assert y[mask].bincount().tolist() == [5, 3, 2]
    assert torch.equal(mask, _stratified(y, 0.1, seed=0))
    assert not torch.equal(mask, _stratified(y, 0.1, seed=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_labels": [1] * 8}, "a single class"),
        ({"validation": 0.0}, "validation must lie between 0 and 1, got 0.0"),
        ({"validation": 0.01}, "leaves no rows on one side"),
        ({"test": torch.full((2, 3), torch.nan)}, "test has NaN"),
        ({"test": torch.ones(2, 4)}, "test has width 4"),
        ({"strengths": ()}, "strengths must be"),
    ],
)
def test_bad_input_is_named(change, message):
    good = {"train": torch.eye(8, 3), "train_labels": [0, 1] * 4, "test": torch.eye(2, 3), "test_labels": [0, 1]}
    with pytest.raises(InputError, match=message):
        linear_probe(**{**good, **change})
