from __future__ import annotations

import slow
import torch

from multicl import SupCon
from multicl.distributed import World
from multicl.functional import sup_con
from multicl.types import Context, Embedded


def test_labels_as_ids_on_some_of_the_rows() -> None:
    g = torch.Generator().manual_seed(0)
    label = [5, 5, 6, -1, -1, 6, 5]
    ids = torch.tensor([x if x >= 0 else 100 + i for i, x in enumerate(label)])  # as the rows of a data set have them
    views = [torch.randn(7, 4, dtype=torch.float64, generator=g).requires_grad_() for _ in range(2)]
    a, b = (Embedded(z, torch.arange(7), ids) for z in views)
    loss = SupCon().build((4, 4))(a, b, Context(World(), symmetric=True))["loss"]
    wanted = slow.sup_con(torch.cat(views), ids.repeat(2).tolist(), torch.tensor(0.1))
    torch.testing.assert_close(loss, wanted)
    for got, right in zip(torch.autograd.grad(loss, views), torch.autograd.grad(wanted, views), strict=True):
        torch.testing.assert_close(got, right)


def test_solo_learn_the_mean_over_positives_stands_outside_of_the_logarithm() -> None:
    """L_out, not L_in (arXiv:2004.11362, equations 2 and 3): they differ as soon as a row has two unlike positives."""
    z = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    u = torch.nn.functional.normalize(z, dim=1)
    logits = (u @ u.T / 0.1).fill_diagonal_(-torch.inf)
    label = torch.tensor([0, 0, 0, 1, 1, 1])
    others = (label[:, None] == label) & ~torch.eye(6, dtype=torch.bool)
    log_p = logits - logits.logsumexp(1, keepdim=True)
    outside = -(log_p.where(others, torch.zeros(())).sum(1) / 2).mean()
    inside = -((log_p.exp() * others).sum(1) / 2).log().mean()
    assert abs(float(outside - inside)) > 0.1
    torch.testing.assert_close(sup_con(z, label), outside)


def test_supcontrast_the_loss_is_not_scaled_by_the_temperature() -> None:
    """Its code multiplies by T / 0.07, and learning rates do not carry over: of uniform logits ours is log(2N - 1)."""
    same = torch.ones(8, 4)
    for temperature in (0.07, 0.5):
        loss = sup_con(same, torch.arange(4).repeat(2), temperature)
        torch.testing.assert_close(loss, torch.tensor(7.0).log())
