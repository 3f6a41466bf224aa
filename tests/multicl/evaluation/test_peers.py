"""The same vectors through multicl and through well-kept libraries."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multicl.evaluation import (
    adjusted_rand_index,
    clustering,
    few_shot,
    k_means,
    knn_accuracy,
    knn_labels,
    normalized_mutual_information,
    retrieval,
    zero_shot_accuracy,
)  # fmt: skip
from multicl.types import InputError


def blobs(n, seed, classes=4, width=8, spread=0.6):
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    y = torch.arange(n) % classes
    return centres[y] + spread * torch.randn(n, width, generator=torch.Generator().manual_seed(seed)), y


@pytest.mark.parametrize("k", [1, 5, 50])
def test_neighbours_vote_as_scikit_learns(k):
    neighbors = pytest.importorskip("sklearn.neighbors")
    (x, y), (q, truth) = blobs(200, 0, spread=1.5), blobs(100, 1, spread=1.5)
    x, q = (torch.nn.functional.normalize(v.double(), dim=1) for v in (x, q))

    def weights(distances):
        return torch.from_numpy((1 - distances) / 0.1).exp().numpy()

    peer = neighbors.KNeighborsClassifier(k, metric="cosine", weights=weights).fit(x.numpy(), y.numpy())
    assert knn_labels(x, y, q, k=k) == peer.predict(q.numpy()).tolist()
    assert knn_accuracy(x, y, q, truth, k=k, chunk=13) == pytest.approx(peer.score(q.numpy(), truth.numpy()))


def test_neighbours_are_faisss():
    faiss = pytest.importorskip("faiss")
    (x, y), (q, truth) = blobs(300, 0, spread=2), blobs(100, 1, spread=2)
    x, q = (torch.nn.functional.normalize(v, dim=1) for v in (x, q))
    index = faiss.IndexFlatIP(8)
    index.add(x.numpy())
    cos, near = (torch.from_numpy(found) for found in index.search(q.numpy(), 10))
    votes = torch.zeros(100, 4).scatter_add_(1, y[near], (cos / 0.1).exp())
    assert knn_labels(x, y, q, k=10) == votes.argmax(1).tolist()
    first = retrieval(q, x, truth, y, ks=(1, 10))
    assert first["recall@1"] == pytest.approx(float((y[near[:, 0]] == truth).double().mean()))
    assert first["recall@10"] == pytest.approx(float((y[near] == truth[:, None]).any(1).double().mean()))


def test_retrieval_is_torchmetricss():
    metrics = pytest.importorskip("torchmetrics.retrieval")
    (x, y), (q, truth) = blobs(60, 0, spread=1.5), blobs(40, 1, spread=1.5)
    cos = torch.nn.functional.normalize(q, dim=1) @ torch.nn.functional.normalize(x, dim=1).T
    flat = (cos.flatten(), (truth[:, None] == y).flatten(), torch.arange(40).repeat_interleave(60))
    got = retrieval(q, x, truth, y, ks=(1, 5))
    for k in (1, 5):
        assert got[f"recall@{k}"] == pytest.approx(float(metrics.RetrievalHitRate(top_k=k)(*flat[:2], indexes=flat[2])))
        ndcg = metrics.RetrievalNormalizedDCG(top_k=k)(flat[0], flat[1].long(), indexes=flat[2])
        assert got[f"ndcg@{k}"] == pytest.approx(float(ndcg), abs=1e-5)
    assert got["mrr"] == pytest.approx(float(metrics.RetrievalMRR()(*flat[:2], indexes=flat[2])))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=60))
def test_agreement_is_scikit_learns(pairs):
    metrics = pytest.importorskip("sklearn.metrics")
    a, b = torch.tensor(pairs).T
    assert normalized_mutual_information(a, b) == pytest.approx(metrics.normalized_mutual_info_score(a, b), abs=1e-9)
    assert adjusted_rand_index(a, b) == pytest.approx(metrics.adjusted_rand_score(a, b), abs=1e-9)


def test_clusters_are_as_tight_as_scikit_learns():
    cluster = pytest.importorskip("sklearn.cluster")
    x, y = blobs(240, 0, spread=0.8)
    unit = torch.nn.functional.normalize(x, dim=1)
    mine = k_means(x, 4)
    theirs = torch.from_numpy(cluster.KMeans(4, n_init=10, random_state=0).fit_predict(unit.numpy())).long()

    def inertia(of):
        return sum(float((unit[of == c] - unit[of == c].mean(0)).square().sum()) for c in range(4))

    assert inertia(mine) <= 1.01 * inertia(theirs)
    found = clustering(x, [f"class {c}" for c in y])
    assert found["nmi"] > 0.5
    assert found["ari"].interval()[0] > 0.3
    assert clustering(x, y) == found
    with pytest.raises(InputError, match="labels holds a single value"):
        clustering(x, [1] * 240)
    with pytest.raises(InputError, match="241 clusters are more than the 240 rows"):
        k_means(x, 241)
    assert k_means(torch.ones(5, 2), 3).max() < 3  # nothing to tell apart


def test_few_shots_are_fitted_as_scikit_learn_does():
    linear = pytest.importorskip("sklearn.linear_model")
    (x, y), (q, truth) = blobs(100, 0, spread=1.5), blobs(60, 1, spread=1.5)
    mean, std = x.mean(0), x.std(0, correction=0)
    scores = []
    for seed in range(3):
        order = torch.randperm(100, generator=torch.Generator().manual_seed(seed))
        shown = torch.cat([order[y[order] == c][:2] for c in range(4)])
        peer = linear.LogisticRegression(C=1 / (8 * 0.01), tol=1e-8, max_iter=2000)
        peer.fit(((x - mean) / std)[shown].numpy(), y[shown].numpy())
        scores.append(peer.score(((q - mean) / std).numpy(), truth.numpy()))
    found = few_shot(x, y, q, truth, shots=(2,), repeats=3)
    assert found["few_shot_2"] == pytest.approx(sum(scores) / 3, abs=0.01)
    assert found["few_shot_2_deviation"] == pytest.approx(float(torch.tensor(scores).std()), abs=0.01)
    with pytest.raises(InputError, match="25 rows, too few for 26 shots: give fewer"):
        few_shot(x, y, q, truth, shots=(26,))


def test_shots_are_as_many_as_the_smallest_class_has() -> None:
    x, y = blobs(20, 0)
    found = few_shot(x, y, x, y, repeats=1)
    assert set(found) == {"few_shot_1", "few_shot_5"}
    assert set(few_shot(x[y != 3], y[y != 3], x, y, repeats=1)) == set(found)


def test_zero_shot_is_the_nearest_mean_description():
    x, y = blobs(60, 0)
    said = torch.randn(8, 8, generator=torch.Generator().manual_seed(5))
    of = [0, 1, 2, 3, 0, 1, 2, 3]
    unit = torch.nn.functional.normalize(said, dim=1)
    centres = torch.nn.functional.normalize(unit[:4] + unit[4:], dim=1)
    want = float(((x @ centres.T).argmax(1) == y).double().mean())
    assert zero_shot_accuracy(x, y, said, of, chunk=7) == pytest.approx(want)
    assert zero_shot_accuracy(x, y, torch.ones(4, 8), range(4)) == 0
    with pytest.raises(InputError, match="a single class"):
        zero_shot_accuracy(x, y, said, [0] * 8)
