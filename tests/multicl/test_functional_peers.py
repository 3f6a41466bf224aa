"""README's table of the peers' losses: values and gradients of both of its columns, where the peer is installed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from multicl import functional

README = (
    (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8").partition("| other library | multicl |")[2]
)
ROWS = dict(re.findall(r"^\| (.+) \| `(.+)` \|$", README.partition("\n\n")[0], re.MULTILINE))


def given() -> dict[str, Any]:
    """What the table's names stand for."""
    g = torch.Generator().manual_seed(0)
    a, b, queue, negatives = (torch.randn(n, 8, generator=g) for n in (16, 16, 64, 16))
    numbers = {"scale": torch.tensor(14.0), "bias": torch.tensor(-10.0)}
    return {
        "a": a.requires_grad_(), "b": (a + b).detach().requires_grad_(), "queue": queue, "negatives": negatives,
        "labels": torch.arange(16) % 5, "scores": torch.rand(16, generator=g),
        **{name: value.requires_grad_() for name, value in numbers.items()},
    }  # fmt: skip


def memory_bank(v: dict[str, Any]) -> Tensor:
    loss = peer("lightly.loss").NTXentLoss(0.1, memory_bank_size=(64, 8))
    loss.memory_bank.bank.copy_(normalize(v["queue"], dim=1))
    found: Tensor = loss(v["a"], v["b"])
    return found


def sentences(name: str, *columns: str, labels: str = "", **settings: Any) -> Callable[[dict[str, Any]], Tensor]:
    """A loss of sentence-transformers, of embeddings that no model gives."""

    def loss(v: dict[str, Any]) -> Tensor:
        module = getattr(peer("sentence_transformers.losses"), name)(None, **settings)
        found: Tensor = module.compute_loss_from_embeddings([v[column] for column in columns], v.get(labels))
        return found

    return loss


def units(v: dict[str, Any]) -> tuple[Tensor, Tensor]:
    return normalize(v["a"], dim=1), normalize(v["b"], dim=1)


def self_supervised(v: dict[str, Any]) -> Tensor:
    losses = peer("pytorch_metric_learning.losses")
    found: Tensor = losses.SelfSupervisedLoss(losses.NTXentLoss(0.1))(v["a"], v["b"])
    return found


peer = pytest.importorskip
PEERS: dict[str, Callable[[dict[str, Any]], Tensor]] = {
    "lightly `NTXentLoss(0.5)(a, b)`": lambda v: peer("lightly.loss").NTXentLoss(0.5)(v["a"], v["b"]),
    "lightly `NTXentLoss(0.1, memory_bank_size=(65536, 128))(a, b)`": memory_bank,
    "lightly `DCLLoss(0.1)(a, b)`": lambda v: peer("lightly.loss").DCLLoss(0.1)(v["a"], v["b"]),
    "pytorch-metric-learning `SelfSupervisedLoss(NTXentLoss(0.1))(a, b)`": self_supervised,
    "pytorch-metric-learning `SupConLoss(0.1)(a, labels)`": lambda v: peer("pytorch_metric_learning.losses").SupConLoss(
        0.1
    )(v["a"], v["labels"]),
    "open_clip `ClipLoss()(a, b, scale)` (unit vectors)": lambda v: peer("open_clip.loss").ClipLoss()(
        *units(v), v["scale"]
    ),
    "open_clip `SigLipLoss()(a, b, scale, bias)` (unit vectors)": lambda v: peer("open_clip.loss").SigLipLoss()(
        *units(v), v["scale"], v["bias"]
    ),
    "sentence-transformers `MultipleNegativesRankingLoss(model, scale=20)` with two columns": sentences(
        "MultipleNegativesRankingLoss", "a", "b", scale=20
    ),
    "the same with a third column of negatives": sentences(
        "MultipleNegativesRankingLoss", "a", "b", "negatives", scale=20
    ),
    "sentence-transformers `CoSENTLoss(model)`": sentences("CoSENTLoss", "a", "b", labels="scores"),
    "info-nce-pytorch `InfoNCE(0.1)(a, b)`": lambda v: peer("info_nce").InfoNCE(0.1)(v["a"], v["b"]),
    "info-nce-pytorch `InfoNCE(0.1)(a, b, negatives)`": lambda v: peer("info_nce").InfoNCE(0.1)(
        v["a"], v["b"], v["negatives"]
    ),
}


def test_every_line_is_compared() -> None:
    assert ROWS.keys() == PEERS.keys()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # theirs
@pytest.mark.parametrize("there", PEERS)
def test_a_peers_loss_has_its_equal(there: str) -> None:
    v = given()
    wanted = PEERS[there](v)
    found = eval(ROWS[there], vars(functional) | v)
    leaves = [z for z in v.values() if z.requires_grad]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    for got, right in zip(
        *(torch.autograd.grad(x, leaves, materialize_grads=True) for x in (found, wanted)), strict=True
    ):
        torch.testing.assert_close(got, right, rtol=1e-4, atol=1e-6)
