"""nce: each row against its own slot of a bank of vectors and K drawn slots, by NCE or by soft-max.

NCE (Wu et al. 2018, arXiv:1805.01978, equations 4 to 8) classifies each of the K + 1 slots: is it the row's own, or was
it drawn uniformly from the N slots of the bank? With logits l, p = exp(l) / Z of the own slot and q = exp(l) / Z of a
drawn one:

    L = -log p / (p + K/N) - sum_k log (K/N) / (q_k + K/N)
      = softplus(-(l - shift)) + sum_k softplus(l_k - shift),  shift = log(K Z/N)

N enters only as Z/N, the mean of exp(l) over the bank, so it does not matter how full the bank is. The soft-max over
the same K + 1 logits (an option of CMC's code, arXiv:1906.05849) needs no Z.

Dimensions: n rows, N slots, K slots drawn for a row, D width. The [n, K, D] drawn vectors are never in memory at once:
rows are walked in pieces, and a piece's gradient is computed with its loss, while its vectors are there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from multicl.ops.once import once
from multicl.ops.uncompiled import uncompiled

Drawn = Callable[[slice], Tensor]
"""Some of the rows -> [r, K] int64, the slots drawn for them; the same at every call."""
DENSE = 32
"""A bank of up to DENSE * K slots is compared whole, by one product, from which the drawn slots' logits are taken."""


@uncompiled
def nce(
    a: Tensor, bank: Tensor, own: Tensor, drawn: Drawn, scale: float, log_norm: float | None
) -> tuple[Tensor, Tensor]:
    """The loss of each row.

    Args:
        a: [n, D] unit rows. bank: [N, D] unit rows; no gradient. own: [n] int64, each row's own slot.
        scale: 1 / temperature. log_norm: log(Z/N), see `mean_exp`; None: soft-max instead of NCE.

    Returns:
        [n] losses, and [n] the probability given to the own slot, in [0, 1], without gradient; float32, or float64
        where a is. Differentiating twice raises RuntimeError.
    """
    with torch.autocast(a.device.type, enabled=False):
        kind = torch.promote_types(a.dtype, torch.float32)
        wanted = torch.is_grad_enabled()
        return _NCE.apply(a.to(kind), bank.to(kind), own, drawn, scale, log_norm, wanted)  # type: ignore[no-any-return,no-untyped-call]


@torch.no_grad()
def mean_exp(a: Tensor, bank: Tensor, drawn: Drawn, scale: float) -> Tensor:
    """[n] float64: mean of exp(scale * a . bank) over the slots drawn for each row; N times the rows' mean estimates Z.

    Args:
        a: [n, D] unit rows. bank: [N, D] unit rows.
    """
    means = a.new_zeros(len(a), dtype=torch.float64)
    for rows, places, dense in _pieces(len(a), bank, drawn):
        logits, _ = _compare(a[rows].to(bank.dtype), bank, places, dense)
        means[rows] = logits.double().mul_(scale).exp_().mean(1)
    return means


class _NCE(torch.autograd.Function):
    """Losses; forward also computes their gradients, and saves them for backward."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, bank: Tensor, own: Tensor, drawn: Drawn, scale: float, log_norm: float | None, wanted: bool
    ) -> tuple[Tensor, Tensor]:
        """Drawn slots push the row away by their slopes, its own slot pulls."""
        loss, sure = a.new_zeros(len(a)), a.new_zeros(len(a))
        wanted = wanted and ctx.needs_input_grad[0]
        grad = torch.zeros_like(a)
        for rows, places, dense in _pieces(len(a), bank, drawn):
            query, mine = a[rows], bank[own[rows]]
            near = scale * (query * mine).sum(1)
            logits, keys = _compare(query, bank, places, dense)
            logits.mul_(scale)
            if log_norm is None:
                others = logits.logsumexp(1)
                margin = near - others
                loss[rows] = softplus(-margin, threshold=40)
            else:
                shift = log_norm + math.log(places.shape[1])
                logits.sub_(shift)
                margin = near - shift
                loss[rows] = softplus(-margin, threshold=40) + softplus(logits, threshold=40).sum(1)
            sure[rows] = margin.sigmoid()
            if wanted:
                pull = torch.sigmoid(-margin)[:, None]
                push = logits.sub_(others[:, None]).exp_().mul_(pull) if log_norm is None else logits.sigmoid_()
                grad[rows] = _add(push, bank, places, keys).addcmul_(pull, mine, value=-1).mul_(scale)
        ctx.save_for_backward(*((grad, a) if wanted else ()))
        ctx.mark_non_differentiable(sure)
        return loss, sure

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients that forward saved."""
        grad, a = ctx.saved_tensors
        with torch.no_grad():
            found = (grads[0][:, None] * grad, *(None,) * 6)
        return once(found, a, "it is computed in forward, without a graph")


def elements(device: torch.device) -> int:
    """Elements that the largest tensors of a piece may have together: 32 MB of float32, on a GPU 256 MB."""
    return 1 << (23 if device.type == "cpu" else 26)


def _pieces(rows: int, bank: Tensor, drawn: Drawn) -> Iterator[tuple[slice, Tensor, bool]]:
    """Yield as many rows as fit in memory, the slots drawn for them, and whether to compare the whole bank."""
    if not rows:
        return
    slots, dim = bank.shape
    count = drawn(slice(0, 1)).shape[1]
    dense = slots <= DENSE * count
    size = max(1, elements(bank.device) // (2 * slots if dense else count * dim))
    for start in range(0, rows, size):
        piece = slice(start, min(start + size, rows))
        yield piece, drawn(piece), dense


def _compare(query: Tensor, bank: Tensor, places: Tensor, dense: bool) -> tuple[Tensor, Tensor | None]:
    """[r, D] rows -> [r, K] products with the slots at `places`, and these slots [r, K, D], or None if `dense`."""
    if dense:
        return (query @ bank.T).gather(1, places), None
    keys = bank[places]
    return torch.bmm(keys, query[:, :, None]).squeeze(2), keys


def _add(push: Tensor, bank: Tensor, places: Tensor, keys: Tensor | None) -> Tensor:
    """[r, D] sum of the slots at `places`, weighted by [r, K] `push`."""
    if keys is None:
        return push.new_zeros(len(push), len(bank)).scatter_add_(1, places, push) @ bank
    return torch.bmm(push[:, None], keys).squeeze(1)
