import math

import pytest
import torch

from multicl.evaluation import alignment, effective_rank, modality_gap, uniformity
from multicl.types import InputError


def rows(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(x):
    return x / x.norm(dim=1, keepdim=True)


def test_alignment():
    a, b = rows(20, 5, 0), rows(20, 5, 1)
    assert alignment(a, 3 * a) == pytest.approx(0, abs=1e-12)
    assert alignment(a, -a) == pytest.approx(4)
    assert alignment(a, b, alpha=1) == pytest.approx(float((unit(a) - unit(b)).norm(dim=1).mean()))


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_uniformity_is_the_papers_line(chunk):
    x = rows(30, 5, 0)
    paper = torch.pdist(unit(x)).pow(2).mul(-2).exp().mean().log()  # Wang & Isola, figure 5
    assert uniformity(x, chunk=chunk) == pytest.approx(float(paper))


def test_uniformity_of_known_sets():
    assert uniformity(torch.ones(9, 4)) == pytest.approx(0, abs=1e-6)
    assert uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-8)
    assert uniformity(torch.zeros(3, 2)) == pytest.approx(0, abs=1e-6)


def test_effective_rank():
    assert effective_rank(torch.eye(7)) == pytest.approx(7)
    assert effective_rank(torch.ones(5, 3)) == pytest.approx(1)
    p = torch.tensor([0.75, 0.25])
    assert effective_rank(torch.diag(p)) == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))
    assert effective_rank(rows(200, 6, 0)) == pytest.approx(6, abs=0.1)


def test_a_small_gaps_interval_holds_it():
    """Resampled means lie further apart than the means; pairs that move as one say more than sets on their own."""
    dice = torch.Generator().manual_seed(0)
    a = torch.randn(32, 16, generator=dice)
    b = a + 0.2 * torch.randn(32, 16, generator=dice)
    apart, together = modality_gap(a, b), modality_gap(a, b, together=True)
    assert apart == together
    (low, high), (near, far) = apart.interval(), together.interval()
    assert low <= near <= together <= far < high


def test_modality_gap():
    a, b = rows(10, 4, 0), rows(15, 4, 1)
    assert modality_gap(a, a.flip(0)) == pytest.approx(0, abs=1e-12)
    assert modality_gap(torch.eye(1, 4), -torch.eye(1, 4)) == pytest.approx(2)
    assert modality_gap(a, b) == pytest.approx(float((unit(a).mean(0) - unit(b).mean(0)).norm()))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: alignment(torch.ones(2, 3), torch.ones(3, 3)), "a has 2 rows and b has 3"),
        (lambda: alignment(torch.ones(2, 3), torch.ones(2, 4)), "b has width 4 and a has 3"),
        (lambda: alignment(torch.ones(2, 3), torch.full((2, 3), torch.nan)), "b has NaN"),
        (lambda: uniformity(torch.ones(1, 3)), "x has a single row"),
        (lambda: uniformity(torch.ones(3)), r"x must be \[N, D\]"),
        (lambda: uniformity(torch.ones(3, 3), t=0), "t must be above 0"),
        (lambda: effective_rank(torch.zeros(2, 3)), "all zeros"),
        (lambda: effective_rank(torch.ones(2, 0)), "at least one row and one column"),
        (lambda: modality_gap(torch.ones(2, 3), torch.ones(2, 4)), "b has width 4 and a has 3"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("rows", [60, 1000])
def test_intervals_hold_their_figures_though_resampling_alone_moves_these(rows: int) -> None:
    dice = torch.Generator().manual_seed(rows)
    a = torch.randn(rows, 32, generator=dice)
    b = a + 0.8 * torch.randn(rows, 32, generator=dice) + 0.1
    for figure in (modality_gap(a, b), effective_rank(a)):
        low, high = figure.interval()
        assert low < figure < high
        assert high - low < (0.5 * figure if rows == 1000 else 2 * figure + 0.1)
