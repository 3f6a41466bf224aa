"""The implementations of each loss: multicl, plain PyTorch, and the peers, each called as its users would.

All take the same raw vectors; if a library expects unit vectors, normalising counts in its time, as for everyone. A
peer that computes less (one direction) is compared with multicl's function for the same loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.inputs import TEMPERATURE, Inputs

Loss = Callable[[Inputs], Tensor]


@dataclass(frozen=True)
class Implementation:
    """How to make a loss function, and how much memory it needs."""

    make: Callable[[], Loss]
    """Imports what it needs; raises ImportError if that is not installed."""
    title: str
    matrices: float = 0.0
    """float32 matrices of rows x rows alive at the peak, as measured, rounded up; 0: memory is linear in the rows."""
    cubes: float = 0.0
    """The same for tensors of rows x rows x rows."""
    peer: bool = True
    """Whether it belongs to another library."""

    def needs(self, rows: int) -> float:
        """Bytes of memory at the peak, roughly."""
        return 4.0 * (self.matrices * rows**2 + self.cubes * rows**3)


def _ours(name: str) -> Loss:
    import multicl.functional as ours

    losses: dict[str, Loss] = {
        "nt_xent": lambda x: ours.nt_xent(x.a, x.b, TEMPERATURE["nt_xent"]),
        "info_nce": lambda x: ours.info_nce(x.a, x.b, x.temperature),
        "info_nce_one": lambda x: ours.info_nce(x.a, x.b, TEMPERATURE["info_nce_one"], both_directions=False),
        "sup_con": lambda x: ours.sup_con(torch.cat([x.a, x.b]), x.labels, TEMPERATURE["sup_con"]),
        "sigmoid": lambda x: ours.sigmoid_loss(x.a, x.b, x.scale, x.bias),
    }
    return losses[name]


def _plain_nt_xent(x: Inputs) -> Tensor:
    z = F.normalize(torch.cat([x.a, x.b]), dim=1)
    logits = z @ z.T / TEMPERATURE["nt_xent"]
    logits.fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(x.a)))


def _plain_info_nce(x: Inputs) -> Tensor:
    logits = F.normalize(x.a, dim=1) @ F.normalize(x.b, dim=1).T / x.temperature
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _plain_info_nce_one(x: Inputs) -> Tensor:
    logits = F.normalize(x.a, dim=1) @ F.normalize(x.b, dim=1).T / TEMPERATURE["info_nce_one"]
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def _plain_sup_con(x: Inputs) -> Tensor:
    z = F.normalize(torch.cat([x.a, x.b]), dim=1)
    logits = z @ z.T / TEMPERATURE["sup_con"]
    logits.fill_diagonal_(-torch.inf)
    positive = (x.labels[:, None] == x.labels).fill_diagonal_(False)
    log_p = logits.log_softmax(1).masked_fill(~positive, 0.0)
    return -(log_p.sum(1) / positive.sum(1)).mean()


def _plain_sigmoid(x: Inputs) -> Tensor:
    cosine = F.normalize(x.a, dim=1) @ F.normalize(x.b, dim=1).T
    sign = 2 * torch.eye(len(cosine), device=cosine.device) - 1
    return -F.logsigmoid(sign * (x.scale * cosine + x.bias)).sum() / len(cosine)


def _lightly() -> Loss:
    from lightly.loss import NTXentLoss

    loss = NTXentLoss(temperature=TEMPERATURE["nt_xent"])
    return lambda x: loss(x.a, x.b)


def _metric_learning_nt_xent() -> Loss:
    from pytorch_metric_learning.losses import NTXentLoss

    loss = NTXentLoss(temperature=TEMPERATURE["nt_xent"])
    return lambda x: loss(torch.cat([x.a, x.b]), torch.arange(len(x.a)).repeat(2))


def _metric_learning_sup_con(name: str, labelled: bool) -> Loss:
    """SupCon; with two rows per label it equals NT-Xent, without that loss's B x B x B tensor."""
    from pytorch_metric_learning.losses import SupConLoss

    loss = SupConLoss(temperature=TEMPERATURE[name])
    return lambda x: loss(torch.cat([x.a, x.b]), x.labels if labelled else torch.arange(len(x.a)).repeat(2))


def _info_nce_pytorch() -> Loss:
    from info_nce import InfoNCE

    loss = InfoNCE(temperature=TEMPERATURE["info_nce_one"])
    return lambda x: loss(x.a, x.b)


def _open_clip() -> Loss:
    from open_clip.loss import ClipLoss

    loss = ClipLoss()
    return lambda x: loss(F.normalize(x.a, dim=1), F.normalize(x.b, dim=1), 1 / x.temperature)


def _open_clip_sigmoid() -> Loss:
    from open_clip.loss import SigLipLoss

    loss = SigLipLoss()
    return lambda x: loss(F.normalize(x.a, dim=1), F.normalize(x.b, dim=1), x.scale, x.bias)


def _sentence_transformers(both: bool) -> Loss:
    """The loss on given embeddings. If the other implementations learn the temperature, its scale is learnt too."""
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    how = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"} if both else {}
    core = MultipleNegativesRankingLoss(None, scale=1 / TEMPERATURE["info_nce_one"], **how)

    def loss(x: Inputs) -> Tensor:
        if both:
            core.scale = 1 / x.temperature
        value: Tensor = core.compute_loss_from_embeddings([x.a, x.b], None)
        return value

    return loss


def _here(name: str, plain: Loss, matrices: float) -> dict[str, Implementation]:
    return {
        "multicl": Implementation(lambda: _ours(name), f"multicl {name}", peer=False),
        "plain": Implementation(lambda: plain, "plain PyTorch", matrices, peer=False),
    }


LOSSES: dict[str, dict[str, Implementation]] = {
    "nt_xent": {
        **_here("nt_xent", _plain_nt_xent, 3.1),
        "lightly": Implementation(_lightly, "lightly NTXentLoss", 4.6),
        "metric-learning": Implementation(_metric_learning_nt_xent, "pytorch-metric-learning NTXentLoss", cubes=4.3),
        "metric-learning-supcon": Implementation(
            lambda: _metric_learning_sup_con("nt_xent", labelled=False), "pytorch-metric-learning SupConLoss", 13
        ),
    },
    "info_nce": {
        **_here("info_nce", _plain_info_nce, 6.1),
        "open_clip": Implementation(_open_clip, "open_clip ClipLoss", 4.1),
        "sentence-transformers": Implementation(
            lambda: _sentence_transformers(both=True), "sentence-transformers MultipleNegativesRankingLoss", 7.1
        ),
    },
    "info_nce_one": {
        **_here("info_nce_one", _plain_info_nce_one, 3.1),
        "info-nce-pytorch": Implementation(_info_nce_pytorch, "info-nce-pytorch InfoNCE", 3.1),
        "sentence-transformers": Implementation(
            lambda: _sentence_transformers(both=False), "sentence-transformers MultipleNegativesRankingLoss", 4.1
        ),
    },
    "sup_con": {
        **_here("sup_con", _plain_sup_con, 5.6),
        "metric-learning": Implementation(
            lambda: _metric_learning_sup_con("sup_con", labelled=True), "pytorch-metric-learning SupConLoss", 12
        ),
    },
    "sigmoid": {
        **_here("sigmoid", _plain_sigmoid, 5.1),
        "open_clip": Implementation(_open_clip_sigmoid, "open_clip SigLipLoss", 5.1),
    },
}
"""Loss -> implementation -> how to make it."""
