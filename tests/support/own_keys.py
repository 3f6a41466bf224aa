"""MoCo's loss by `contrast`, tiled and by Triton's kernels, compared with the paper's form in float64."""

from __future__ import annotations

import directs
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from multicl.distributed import World
from multicl.functional import info_nce
from multicl.ops import fused


def given(n: int, kind: torch.dtype, temperature: float) -> list[Tensor]:
    """Queries and keys [n, 11], 50 keys of a queue, and the temperature; all require gradients."""
    g = torch.Generator().manual_seed(0)
    rows = [torch.randn(m, 11, dtype=torch.float64, generator=g) for m in (n, n, 50)]
    rows[1] += rows[0]
    return [x.to(kind).requires_grad_() for x in (*rows, torch.tensor(temperature))]


def paper(q: Tensor, k: Tensor, queue: Tensor, temperature: Tensor) -> Tensor:
    """Equation 1 of arXiv:1911.05722, as its Algorithm 1 writes it."""
    q, k, queue = (normalize(z, dim=1) for z in (q, k, queue))
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], 1) / temperature
    return cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))


def ours(q: Tensor, k: Tensor, queue: Tensor, temperature: Tensor) -> Tensor:
    return info_nce(q, k, temperature, both_directions=False, extra_keys=queue, in_batch=False)


def by_kernels(counts: list[int], temperature: float, products: torch.dtype) -> list[list[float]]:
    """The loss and gradients of this rank's rows, interpreted; those of the queue and the temperature are shares."""
    directs.prepare()
    walked: list[int] = []

    class Counted(fused.Fused):
        def forward(self, block: object, running: object) -> None:
            walked.append(len(block.y))  # type: ignore[attr-defined]
            super().forward(block, running)  # type: ignore[arg-type]

    fused.form = lambda device, kind, tilts, low: Counted(products)
    world = World.current()
    q, k, queue, t = given(sum(counts), torch.float32, temperature)
    mine = slice(sum(counts[: world.rank]), sum(counts[: world.rank + 1]))
    loss = ours(q[mine], k[mine], queue, t)
    grads = [grad / world.size for grad in torch.autograd.grad(loss, [q, k, queue, t])]
    assert sum(walked) == len(queue), "the batch's keys are walked in vain"
    return [x.flatten().tolist() for x in (loss, *grads)]
