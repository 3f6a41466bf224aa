"""sigmoid_loss: SigLIP's loss (arXiv:2303.15343) and its gradients in one walk over tiles of the logits.

The matrix is never written out: memory is O((N + K) D). A tile is made once, for loss and gradients together: three
matrix products in all, the least that there can be.

Dimensions: N local rows, K rows of all ranks on the other side, D width; n, k rows of one tile.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from multicl.distributed import World
from multicl.ops.once import once
from multicl.ops.relation import Relation

TILE = 512


@torch.compiler.disable  # type: ignore[untyped-decorator]
def sigmoid_loss(
    a: Tensor, b: Tensor, scale: Tensor, bias: Tensor, relation: Relation, world: World | None = None
) -> Tensor:
    """-1/B sum_ij log sigmoid(y_ij (scale * a_i . b_j + bias)), over the rows of all ranks; B is how many a has.

    Args:
        a: [N, D] this rank's rows, unit vectors for cosine similarity. b: [M, D].
        scale, bias: one element each; may want gradients.
        relation: y is 1 for positives and -1 for negatives; a pair that is neither counts nowhere.

    Returns:
        Scalar, the same on every rank; float32, or float64 where a is. Each rank's backward gives W times its share
        of the gradient, keys' gradients summed home. Differentiating twice raises RuntimeError.
    """
    world = world or World.current()
    with torch.autocast(a.device.type, enabled=False):
        kind = torch.promote_types(a.dtype, torch.float32)
        a, keys = a.to(kind), world.gather(b.to(kind))
        row, ids = world.gather(relation.b.row), world.gather(relation.b.id)
        rows = (relation.a.row, row) if relation.equal_ids == "ignore" else None
        scale, bias = scale.to(kind).reshape(1), bias.to(kind).reshape(1)
        wanted = torch.is_grad_enabled()
        total = _Sigmoid.apply(a, keys, scale, bias, (relation.a.id, ids), rows, wanted)  # type: ignore[no-untyped-call]
        each = (total / max(len(a), 1)).expand(len(a))  # rows carry equal parts of the sum: their mean is sum / B
        return world.mean(each, torch.ones_like(each, dtype=torch.bool))


class _Sigmoid(torch.autograd.Function):
    """The sum over this rank's rows, and its gradients, which wait for backward."""

    @staticmethod
    def forward(
        ctx: Any,
        a_ND: Tensor,
        keys_KD: Tensor,
        scale: Tensor,
        bias: Tensor,
        ids: tuple[Tensor, Tensor],
        rows: tuple[Tensor, Tensor] | None,
        wanted: bool,
    ) -> Tensor:
        """Walk the tiles. ids, rows: of a and of the keys; rows given: equal ids of other rows count nowhere."""
        wanted = wanted and any(ctx.needs_input_grad)
        scaled_ND = a_ND * scale
        loss_N = a_ND.new_zeros(len(a_ND))
        grad_a = torch.zeros_like(a_ND) if wanted else None
        grad_keys = torch.zeros_like(keys_KD)
        grad_bias = torch.zeros_like(bias)
        for i in range(0, len(a_ND), TILE):
            for k in range(0, len(keys_KD), TILE):
                mine, theirs = slice(i, i + TILE), slice(k, k + TILE)
                logits_nk = torch.addmm(bias, scaled_ND[mine], keys_KD[theirs].T)
                positive = same = ids[0][mine, None] == ids[1][theirs]
                if rows is not None:  # equal rows have equal ids
                    positive = rows[0][mine, None] == rows[1][theirs]
                agreed = torch.where(positive, logits_nk, -logits_nk)  # y * logit
                if rows is not None:
                    agreed.masked_fill_(same & ~positive, torch.inf)  # no loss, no gradient
                loss_N[mine] -= logsigmoid(agreed).sum(1)
                if grad_a is None:
                    continue
                slope_nk = torch.sigmoid_(agreed.neg_())
                slope_nk = torch.where(positive, -slope_nk, slope_nk)  # of the loss with respect to the logit
                grad_a[mine].addmm_(slope_nk, keys_KD[theirs])
                grad_keys[theirs].addmm_(slope_nk.T, a_ND[mine])
                grad_bias += slope_nk.sum()
        if grad_a is not None:
            grad_scale = (grad_a * a_ND).sum().reshape(1)  # sum_ij slope_ij cos_ij
            wants = next(x for x in (a_ND, keys_KD, scale, bias) if x.requires_grad)
            ctx.save_for_backward(grad_a.mul_(scale), grad_keys.mul_(scale), grad_scale, grad_bias, wants)
        return loss_N.sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Scale what forward left."""
        *saved, wants = ctx.saved_tensors
        with torch.no_grad():
            found = (*(grads[0] * grad for grad in saved), None, None, None)
        return once(found, wants, "it is formed on the way there, without a graph")
