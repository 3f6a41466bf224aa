import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multicl.evaluation import ranks, retrieval
from multicl.types import InputError


def rows(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def top_k_hits(queries, items, query_ids, item_ids, k):
    """Recall as it is usually written: is any of the k nearest true?"""
    cos = torch.nn.functional.cosine_similarity(queries[:, None], items[None], dim=2)
    hits = [
        any(item_ids[j] == q for j in row.argsort(descending=True)[:k].tolist())
        for row, q in zip(cos, query_ids, strict=True)
        if q in item_ids
    ]
    return sum(hits) / len(hits)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 20), st.integers(1, 30), st.integers(1, 6), st.integers(0, 10**6))
def test_is_recall_by_hand(n, m, things, seed):
    draw = torch.Generator().manual_seed(seed)
    query_ids = torch.randint(things, (n,), generator=draw).tolist()
    item_ids = torch.randint(things, (m,), generator=draw).tolist()
    item_ids[0] = query_ids[0]
    queries, items = rows(n, 8, seed), rows(m, 8, seed + 1)
    got = retrieval(queries, items, query_ids, torch.tensor(item_ids), ks=(1, 3, 30), chunk=4)
    for k in (1, 3, 30):
        assert got[f"recall@{k}"] == pytest.approx(top_k_hits(queries, items, query_ids, item_ids, k))
    assert got["without_truth"] == sum(q not in item_ids for q in query_ids)
    assert got["recall@1"] <= got["mrr"] <= 1 <= got["median_rank"] <= m


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 20), st.integers(2, 30), st.integers(1, 6), st.integers(0, 10**6))
def test_is_scikit_learns_ndcg(n, m, things, seed):
    metrics = pytest.importorskip("sklearn.metrics")
    draw = torch.Generator().manual_seed(seed)
    query_ids, item_ids = (torch.randint(things, (count,), generator=draw) for count in (n, m))
    item_ids[0] = query_ids[0]
    queries, items = rows(n, 8, seed), rows(m, 8, seed + 1)
    got = retrieval(queries, items, query_ids, item_ids, ks=(1, 3, 30), chunk=4)
    true = query_ids[:, None] == item_ids
    known = true.any(1)
    cos = torch.nn.functional.cosine_similarity(queries[:, None], items[None], dim=2)
    for k in (1, 3, 30):
        want = metrics.ndcg_score(true[known].double().numpy(), cos[known].numpy(), k=k, ignore_ties=True)
        assert got[f"ndcg@{k}"] == pytest.approx(want)
        precisions = []
        for asked, row in zip(true[known].tolist(), cos[known].argsort(dim=1, descending=True).tolist(), strict=True):
            hits, total = 0, 0.0
            for place, item in enumerate(row[:k], 1):
                if asked[item]:
                    hits += 1
                    total += hits / place
            precisions.append(total / min(k, sum(asked)))
        assert got[f"map@{k}"] == pytest.approx(sum(precisions) / len(precisions))
    ranked = true[known].gather(1, cos[known].argsort(dim=1, descending=True))
    assert got["mrr"] == pytest.approx(float((1 / (ranked.double().argmax(1) + 1)).mean()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("width", [3, 128, 1000])
def test_a_constant_embedding_finds_nothing(dtype, width):
    row = rows(1, width, 0).to(dtype)
    got = retrieval(row.expand(57, -1), row.expand(57, -1), range(57), range(57))
    assert got["recall@1"] == got["recall@10"] == got["ndcg@10"] == 0
    assert got["median_rank"] == 57
    zeros = retrieval(torch.zeros(9, 4), torch.zeros(9, 4), range(9), range(9))
    assert zeros["recall@1"] == 0


def test_equal_true_items_are_no_tie():
    x = torch.eye(3)
    got = retrieval(x, torch.cat([x, x, x]), ["a", "b", "c"], list("abcabcabc"))
    assert got == {
        **{f"{name}@{k}": 1.0 for name in ("recall", "ndcg", "map") for k in (1, 5, 10)},
        "median_rank": 1.0, "mrr": 1.0, "without_truth": 0.0,
    }  # fmt: skip


def test_figures_of_known_ranks():
    items = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.5, 0.5], [0.0, 1.0]])
    query = torch.tensor([[1.0, 0.0]]).expand(4, -1)
    assert ranks(query, items, [0, 2, 3, 9], [0, 1, 2, 3]).tolist() == [1, 3, 4, 0]
    got = retrieval(query, items, [0, 2, 3, 9], [0, 1, 2, 3], ks=(3,))
    assert got["recall@3"] == pytest.approx(2 / 3)
    assert got["mrr"] == pytest.approx((1 + 1 / 3 + 1 / 4) / 3)
    assert got["median_rank"] == 3
    assert got["without_truth"] == 1


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 15), st.integers(1, 20), st.integers(1, 6), st.booleans(), st.integers(0, 10**6))
def test_of_several_ids_one_that_is_shared_makes_an_item_true(n, m, things, one, seed):
    """Counted plainly; sharing does not go on: of three that share along a chain the ends are not about one thing."""
    draw = random.Random(seed)
    query_ids = [{draw.randrange(things) for _ in range(draw.randrange(4))} for _ in range(n - 1)] + [{0}]
    item_ids = [[draw.randrange(things) for _ in range(draw.randrange(4))] for _ in range(m - 1)] + [[0, 0]]
    if one:  # of either kind in one argument
        query_ids[0], item_ids[-1] = 0, 0
    queries, items = rows(n, 8, seed), rows(m, 8, seed + 1)
    plain = [[{*([i] if isinstance(i, int) else i)} for i in ids] for ids in (query_ids, item_ids)]
    true = torch.tensor([[bool(q & held) for held in plain[1]] for q in plain[0]])
    cos = torch.nn.functional.cosine_similarity(queries[:, None], items[None], dim=2)
    hits = true.gather(1, cos.argsort(dim=1, descending=True))
    expected = torch.where(hits.any(1), hits.int().argmax(1) + 1, 0)
    assert ranks(queries, items, query_ids, item_ids, chunk=4).tolist() == expected.tolist()
    found = retrieval(queries, items, query_ids, item_ids, ks=(1, 3), chunk=4)
    assert found["without_truth"] == (~true).all(1).sum()
    known, places = true.any(1), torch.arange(1, m + 1)
    precision = hits.cumsum(1) / places
    best = true.sum(1).clamp(max=min(3, m))
    mean = ((precision * hits)[:, :3].sum(1) / best)[known].mean()
    assert found["map@3"] == pytest.approx(float(mean))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": torch.ones(2, 3)}, "items has width 3 and queries has 2"),
        ({"queries": torch.tensor([[torch.inf, 0], [0, 1]])}, "queries has NaN or infinite values in 1 of its 2 rows"),
        ({"query_ids": ["a"]}, "query_ids has 1 entries for 2 rows"),
        ({"item_ids": [[1], [[2]]]}, r"item_ids must be flat and hold ints or strings, got \[2\]"),
        ({"item_ids": [[1, 2]]}, "item_ids has 1 entries for 2 rows"),
        ({"query_ids": [[], []]}, "nothing to find"),
        ({"item_ids": [7, 8]}, "nothing to find"),
        ({"ks": (0,)}, "ks must be above 0"),
    ],
)
def test_bad_input_is_named(change, message):
    good = {"queries": torch.eye(2), "items": torch.eye(2), "query_ids": [0, 1], "item_ids": [0, 1]}
    with pytest.raises(InputError, match=message):
        retrieval(**{**good, **change})
