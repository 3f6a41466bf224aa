import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from multicl.evaluation import spearman, sts_mean_spearman, sts_spearman
from multicl.types import InputError

stats = pytest.importorskip("scipy.stats")
values = st.integers(-5, 5) | st.floats(-10, 10, width=32)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(values, values), min_size=2, max_size=40))
def test_is_scipys_with_ties(pairs):
    x, y = torch.tensor(pairs, dtype=torch.float64).T
    assume(len(x.unique()) > 1 and len(y.unique()) > 1)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x.numpy(), y.numpy()).statistic, abs=1e-12)


def test_only_order_matters():
    x = torch.tensor([3, 1, 2])
    assert spearman(x, x.double().exp()) == pytest.approx(1)
    assert spearman(x, -x) == pytest.approx(-1)


def test_sts_is_the_correlation_of_cosines():
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 50, 8, generator=draw)
    scores = torch.randint(6, (50,), generator=draw).float()
    cos = torch.nn.functional.cosine_similarity(a, b)
    want = stats.spearmanr(cos.numpy(), scores.numpy()).statistic
    assert sts_spearman(a, b * torch.rand(50, 1, generator=draw).add(0.1), scores) == pytest.approx(want, abs=1e-6)


def test_scores_may_be_a_list_an_array_or_a_column_of_a_table():
    a, b = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    scores = [0.5, 3.0, 1.0, 2.0, 5.0, 4.0]
    want = sts_spearman(a, b, torch.tensor(scores))
    table = pytest.importorskip("pandas").DataFrame({"score": [*scores, 9.0]})
    for given_as in (scores, tuple(scores), np.array(scores)[::-1][::-1], table.score[:6]):
        assert sts_spearman(a, b, given_as) == want
        assert sts_mean_spearman(a, b, given_as, ["x"] * 6) == want
    with pytest.raises(InputError, match="scores has NaN"):
        sts_spearman(a, b, [None, *scores[1:]])
    with pytest.raises(InputError, match=r"scores must be numbers, one a row: .*'near'"):
        sts_spearman(a, b, ["near", *scores[1:]])


def test_the_mean_over_parts_is_of_each_by_itself():
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 50, 8, generator=draw)
    scores = torch.randint(6, (50,), generator=draw).float()
    parts = ["x", "y", "x", "z", "y"] * 10
    cos = torch.nn.functional.cosine_similarity(a, b)
    inside = [[i for i, part in enumerate(parts) if part == name] for name in "xyz"]
    want = [stats.spearmanr(cos[i].numpy(), scores[i].numpy()).statistic for i in inside]
    assert sts_mean_spearman(a, b, scores, parts) == pytest.approx(sum(want) / 3, abs=1e-6)
    assert sts_mean_spearman(a, b, scores, ["x"] * 50) == pytest.approx(sts_spearman(a, b, scores))
    with pytest.raises(InputError, match="parts has 2 entries for 50 rows"):
        sts_mean_spearman(a, b, scores, ["x", "y"])


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1.0, 1.0], [0.0, 1.0], "x: all 2 values are 1.0"),
        ([0.0, 1.0], [0.0, float("nan")], "y has NaN"),
        ([0.0, 1.0], [0.0, 1.0, 2.0], "must be"),
        ([0.0], [0.0], "N at least 2"),
    ],
)
def test_bad_vectors_are_named(x, y, message):
    with pytest.raises(InputError, match=message):
        spearman(torch.tensor(x), torch.tensor(y))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": torch.ones(3, 2), "b": torch.ones(3, 2)}, "the cosines of a and b: all 3 values"),
        ({"scores": torch.ones(3)}, "scores: all 3 values are 1.0"),
        ({"scores": torch.ones(2)}, r"scores must be \[3\]"),
        ({"b": torch.ones(4, 2)}, "a has 3 rows and b has 4"),
        ({"b": torch.full((3, 2), torch.nan)}, "b has NaN"),
    ],
)
def test_bad_pairs_are_named(change, message):
    good = {"a": torch.eye(3, 2), "b": torch.eye(3, 2).flip(0) + 0.1, "scores": torch.arange(3.0)}
    with pytest.raises(InputError, match=message):
        sts_spearman(**{**good, **change})
