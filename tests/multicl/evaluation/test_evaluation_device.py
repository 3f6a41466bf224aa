"""Measures of vectors on a GPU, which is pretended: the figures of the CPU, and nothing refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pretended import Gpu, OnGpu

from multicl import evaluation
from multicl.evaluation.knn import knn_labels
from multicl.evaluation.sts import spearman
from multicl.settings import Mine
from multicl.training.mining import highest, near_negatives
from multicl.training.monitors import accuracies, geometry
from multicl.types import Embedded

G = torch.Generator().manual_seed(0)
LABELS = torch.arange(120) % 5
TRAIN = torch.randn(120, 16, generator=G) + torch.randn(5, 16, generator=G)[LABELS]
TEST = TRAIN[:60] + 0.5 * torch.randn(60, 16, generator=G)
OF_TEST = LABELS[:60]
PROMPTS = torch.stack([TRAIN[LABELS.eq(label)].mean(0) for label in range(5)])


def mined(put: Callable[[torch.Tensor], torch.Tensor], **settings: Any) -> Any:
    mine, x, ids = Mine(negatives=3, **settings), put(TRAIN), put(LABELS)
    there = put(torch.arange(120) % 7 > 0)
    limit = highest(mine, put(torch.full((120,), 9.0)))
    return near_negatives(x, ids, limit, x, ids, there, mine, torch.Generator().manual_seed(0)).cpu().tolist()


def agreement(put: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    a, b = (Embedded(put(z), put(torch.arange(60)), put(OF_TEST)) for z in (TRAIN[:60], TEST))
    return accuracies(a, b), geometry(a.z)


MEASURES: dict[str, Callable[[Callable[[torch.Tensor], torch.Tensor]], Any]] = {
    "knn": lambda put: evaluation.knn_accuracy(put(TRAIN), put(LABELS), put(TEST), put(OF_TEST)),
    "knn, labels of the CPU": lambda put: evaluation.knn_accuracy(put(TRAIN), LABELS, put(TEST), OF_TEST),
    "knn labels": lambda put: knn_labels(put(TRAIN), put(LABELS), put(TEST)),
    "linear probe": lambda put: evaluation.linear_probe(
        put(TRAIN), put(LABELS), put(TEST), put(OF_TEST), strengths=(0.01, 1.0)
    ),
    "few-shot": lambda put: evaluation.few_shot(
        put(TRAIN), put(LABELS), put(TEST), put(OF_TEST), shots=(1, 4), repeats=2
    ),
    "retrieval": lambda put: evaluation.retrieval(put(TEST), put(TRAIN), put(OF_TEST), put(LABELS)),
    "retrieval within": lambda put: evaluation.retrieval_within(put(TRAIN), put(LABELS)),
    "zero-shot": lambda put: evaluation.zero_shot(put(TEST), put(PROMPTS), put(OF_TEST)),
    "clustering": lambda put: evaluation.clustering(put(TRAIN), put(LABELS)),
    "sts": lambda put: evaluation.sts_spearman(put(TRAIN[:60]), put(TEST), put(torch.arange(60.0))),
    "spearman": lambda put: spearman(put(TEST[:, 0]), put(TEST[:, 1])),
    "triplets": lambda put: evaluation.triplet_accuracy(put(TRAIN[:60]), put(TEST), put(TRAIN[60:])),
    "alignment": lambda put: evaluation.alignment(put(TRAIN[:60]), put(TEST)),
    "uniformity": lambda put: evaluation.uniformity(put(TRAIN)),
    "effective rank": lambda put: evaluation.effective_rank(put(TRAIN)),
    "modality gap": lambda put: evaluation.modality_gap(put(TRAIN), put(TEST)),
    "agreement": agreement,
    "mining": mined,
    "mining, drawn": lambda put: mined(put, among=7),
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_figures_are_the_cpus(measure: Callable[[Callable[[torch.Tensor], torch.Tensor]], Any], gpu: Gpu) -> None:
    found, wanted = measure(lambda x: x.to("cuda")), measure(lambda x: x)
    assert _plain(found) == pytest.approx(_plain(wanted), rel=1e-5)
    assert gpu.launches > 0


def _plain(found: Any) -> Any:
    """Numbers alone."""
    if isinstance(found, OnGpu):
        found = found.held
    if isinstance(found, torch.Tensor):
        return found.flatten().tolist()
    if isinstance(found, dict):
        return {key: _plain(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [number for part in found for number in _flat(_plain(part))]
    return vars(found) if hasattr(found, "most") else found


def _flat(found: Any) -> list[Any]:
    return found if isinstance(found, list) else list(found.values()) if isinstance(found, dict) else [found]
