from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multicl.evaluation import retrieval_within
from multicl.types import InputError


def by_hand(x: torch.Tensor, labels: list[int], k: int) -> tuple[float, float, float]:
    """Recall@k, R-precision and MAP@R, row by row."""
    cos = torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=2)
    rows = []
    for i, label in enumerate(labels):
        order = [j for j in cos[i].argsort(descending=True).tolist() if j != i]
        hits = [labels[j] == label for j in order]
        if not sum(hits):
            continue
        r = sum(hits)
        precisions = [sum(hits[: place + 1]) / (place + 1) for place in range(r) if hits[place]]
        rows.append((float(any(hits[:k])), sum(hits[:r]) / r, sum(precisions) / r))
    return tuple(torch.tensor(rows).mean(0).tolist())  # type: ignore[return-value]


@settings(deadline=None, max_examples=25)
@given(st.integers(3, 20), st.integers(1, 6), st.integers(1, 25), st.integers(0, 10**6))
def test_is_the_figures_by_hand(n: int, classes: int, k: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=draw).tolist()
    labels[1] = labels[0]
    x = torch.randn(n, 8, generator=draw, dtype=torch.float64)
    found = retrieval_within(x, labels, ks=(k,), chunk=4)
    got = [found[name] for name in (f"recall@{k}", "r_precision", "map@r")]
    assert got == pytest.approx(by_hand(x, labels, k), abs=1e-6)
    assert found["without_truth"] == sum(labels.count(label) == 1 for label in labels)
    assert found == retrieval_within(x, torch.tensor(labels), ks=(k,))


def test_map_at_r_as_its_paper_draws_it() -> None:
    """One hit of ten, at the first place and at the last: what R-precision cannot tell apart."""
    for place, want in ((0, 1 / 10), (9, 1 / 100)):
        angles = torch.linspace(0.01, 1.5, 30)
        labels = ["other"] * 30
        labels[place] = "own"
        labels[-9:] = ["own"] * 9
        x = torch.cat([torch.zeros(1), angles])
        x = torch.stack([x.cos(), x.sin()], 1)
        asked = retrieval_within(x, ["own", *labels])
        assert float(asked["map@r"].again(torch.tensor([0]))) == pytest.approx(want)
        assert float(asked["r_precision"].again(torch.tensor([0]))) == pytest.approx(1 / 10)


def test_a_collapsed_model_finds_nothing() -> None:
    x = torch.ones(9, 4) + 1e-7 * torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    found = retrieval_within(x, [0, 0, 0, 1, 1, 1, 2, 2, 2], ks=(1, 6))
    assert found["recall@1"] == found["recall@6"] == found["map@r"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["a", "b", "c"]}, "no two of the 3 rows share a label"),
        ({"labels": [0, 0]}, "labels has 2 entries for 3 rows"),
        ({"x": torch.full((3, 2), torch.nan)}, "x has NaN"),
        ({"ks": (0,)}, "ks must be above 0"),
        ({"chunk": 0}, "chunk must be above 0"),
    ],
)
def test_bad_input_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        retrieval_within(**{"x": torch.eye(3), "labels": [0, 0, 1], **change})  # type: ignore[arg-type]
