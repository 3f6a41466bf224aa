import math

import numpy as np
import pytest
import torch

from multicl.evaluation import knn_accuracy, knn_labels
from multicl.types import InputError


def rows(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def by_hand(train, labels, test, truth, k, temperature):
    """InstDisc's vote, one test row at a time."""
    right = 0
    for x, wanted in zip(test, truth, strict=True):
        cos = torch.nn.functional.cosine_similarity(x[None], train)
        votes = {}
        for i in cos.argsort(descending=True)[:k].tolist():
            votes[labels[i]] = votes.get(labels[i], 0) + math.exp(cos[i] / temperature)
        right += max(votes, key=votes.get) == wanted
    return right / len(test)


@pytest.mark.parametrize("k", [1, 7, 60, 1000])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_is_the_vote_by_hand(k, temperature):
    train, test = rows(60, 5, 0), rows(40, 5, 1)
    labels, truth = [i % 4 for i in range(60)], [i % 5 for i in range(40)]  # class 4 is unknown to training
    want = by_hand(train, labels, test, truth, k, temperature)
    got = knn_accuracy(train, torch.tensor(labels), test, torch.tensor(truth), k, temperature, chunk=7)
    assert got == pytest.approx(want, abs=1e-9)
    named = knn_accuracy(train, [f"c{i}" for i in labels], test, [f"c{i}" for i in truth], k, temperature)
    assert named == got


def test_labels_as_data_sets_give_them():
    """One by one, each is a scalar of numpy or of torch; an array's are told as plain numbers."""
    x, y = rows(12, 5, 0), [i % 3 for i in range(12)]
    want = knn_accuracy(x, y, x, y, k=3)
    for labels in ([*np.array(y)], [*torch.tensor(y)], np.array([*map(str, y)])):
        assert knn_accuracy(x, labels, x, labels, k=3) == want
    assert all(type(label) is int for label in knn_labels(x, np.array(y), x))
    with pytest.raises(InputError, match=r"must be flat and hold ints or strings, got 0\.5"):
        knn_accuracy(x, [np.float64(0.5)] * 12, x, y)


def test_neither_length_nor_a_tiny_temperature_matters():
    train, test, labels = rows(30, 4, 2), rows(20, 4, 3), list(range(30))
    nearest = (test / test.norm(dim=1, keepdim=True) @ (train / train.norm(dim=1, keepdim=True)).T).argmax(1)
    scaled = test * torch.linspace(1e-3, 1e3, 20)[:, None]
    assert knn_accuracy(train, labels, scaled, nearest, k=30, temperature=1e-4) == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": torch.zeros(3, 5)}, "test has width 5 and train has 4"),
        ({"train": torch.full((6, 4), torch.nan)}, "train has NaN"),
        ({"test_labels": [0, 1]}, "test_labels has 2 entries for 3 rows"),
        ({"train_labels": [0.5] * 6}, "train_labels must be flat and hold ints or strings, got 0.5"),
        ({"test": torch.zeros(0, 4), "test_labels": []}, "test must be"),
        ({"train": torch.zeros(6, 4, dtype=torch.int64)}, "train must be a floating-point"),
        ({"k": 0}, "k must be above 0"),
    ],
)
def test_bad_input_is_named(change, message):
    given = {"train": rows(6, 4, 0), "train_labels": [0] * 6, "test": rows(3, 4, 1), "test_labels": [0] * 3}
    with pytest.raises(InputError, match=message):
        knn_accuracy(**{**given, **change})
