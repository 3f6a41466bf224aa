import math

import numpy as np
import pytest
import torch

from multicl.evaluation import (
    Figure,
    effective_rank,
    intervals,
    knn_accuracy,
    modality_gap,
    retrieval,
    spread,
    sts_spearman,
    uniformity,
)  # fmt: skip
from multicl.evaluation.figure import average_of, mean_of
from multicl.types import InputError


def rows(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_interval_of_a_mean_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    x = rows(200, 1, 0)[:, 0].exp()
    low, high = mean_of(x).interval()
    peer = stats.bootstrap((x.numpy(),), np.mean, method="percentile", n_resamples=5000, rng=1).confidence_interval
    assert (low, high) == pytest.approx((peer.low, peer.high), abs=0.05)
    assert low < float(mean_of(x)) < high
    narrow = mean_of(x).interval(level=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_equal_seeds_give_equal_intervals():
    figure = mean_of(rows(50, 1, 0)[:, 0])
    assert figure.interval(seed=3) == figure.interval(seed=3) != figure.interval(seed=4)


def test_an_average_draws_the_rows_of_each_of_its_figures():
    x, y, z = rows(50, 1, 0)[:, 0], rows(400, 1, 1)[:, 0] + 3, rows(90, 1, 2)[:, 0]
    two = Figure(float(x.mean() * z.mean()), (50, 90), lambda i, j: float(x[i].mean() * z[j].mean()), draws=300)
    average = average_of([two, mean_of(y)])
    assert average == pytest.approx((float(two) + float(y.mean())) / 2)
    assert (average.rows, average.draws) == ((50, 90, 400), 300)
    dice = np.random.default_rng(0)
    drawn = [[dice.choice(part.numpy(), len(part)).mean() for part in (x, z, y)] for _ in range(5000)]
    wanted = np.quantile([(a * b + c) / 2 for a, b, c in drawn], [0.025, 0.975])
    assert average_of([average]).interval() == average.interval() == pytest.approx(tuple(wanted), abs=0.02)


def test_a_figure_is_a_float_and_names_its_interval():
    figure = mean_of(torch.tensor([1.0, 0.0, 1.0, 1.0]))
    assert isinstance(figure, float)
    assert figure == 0.75
    assert round(figure, 1) == 0.8
    assert intervals({"a": figure, "b": 0.5}).keys() == {"a"}
    with pytest.raises(InputError, match="level"):
        figure.interval(level=1)


def test_every_figure_covers_the_truth_about_as_often_as_it_says():
    """Accuracy of 0.7: over 200 samples of 100 rows, the interval holds the truth in nearly 95 % of them."""
    dice = torch.Generator().manual_seed(0)
    inside = 0
    for _ in range(200):
        hits = (torch.rand(100, generator=dice) < 0.7).double()
        low, high = Figure(float(hits.mean()), 100, lambda i, hits=hits: float(hits[i].mean()), draws=300).interval()
        inside += low <= 0.7 <= high
    assert 0.89 <= inside / 200 <= 0.99


@pytest.mark.parametrize(
    "measure",
    [
        lambda x, y: uniformity(x),
        lambda x, y: modality_gap(x + 1, y),
        lambda x, y: modality_gap(x + 1, x + y, together=True),
        lambda x, y: sts_spearman(x, y, (x * y).sum(1) + rows(len(x), 1, 9)[:, 0]),
        lambda x, y: retrieval(x, x + y, range(len(x)), range(len(x)))["ndcg@5"],
        lambda x, y: knn_accuracy(x, [i % 3 for i in range(len(x))], y, [i % 3 for i in range(len(y))], k=5),
    ],
)
def test_intervals_hold_the_figure_and_shrink_with_more_rows(measure):
    spans = []
    for n in (60, 960):
        figure = measure(rows(n, 6, 0), rows(n, 6, 1))
        low, high = figure.interval()
        assert low <= figure <= high
        spans.append(high - low)
    assert spans[1] < spans[0] * 0.6 or spans == [0, 0]


def test_uniformitys_interval_is_as_wide_as_fresh_samples_say():
    to_one_side = torch.tensor([1.5, 0, 0, 0])
    fresh = torch.tensor([uniformity(rows(150, 4, seed) + to_one_side) for seed in range(60)])
    low, high = uniformity(rows(150, 4, 100) + to_one_side).interval()
    assert (high - low) / 3.92 == pytest.approx(float(fresh.std()), rel=0.35)


def test_effective_ranks_resample_is_that_of_the_drawn_rows():
    x = rows(30, 4, 0)
    index = torch.randint(30, (30,), generator=torch.Generator().manual_seed(1))
    assert effective_rank(x).again(index) == pytest.approx(float(effective_rank(x[index])))


def test_spread_of_seeds():
    found = spread([{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 2.0}, {"a": 5.0}])
    assert found.keys() == {"a"}
    assert found["a"] == (3.0, 2.0, (1.0, 3.0, 5.0))
    assert math.isnan(spread([{"a": 1.0}])["a"].deviation)
    with pytest.raises(InputError):
        spread([])


def test_the_median_ranks_interval_holds_it():
    figure = retrieval(rows(60, 6, 0), rows(60, 6, 0) + rows(60, 6, 1), range(60), range(60))["median_rank"]
    low, high = figure.interval()
    assert 1 <= low <= figure <= high < 60
