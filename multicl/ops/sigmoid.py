"""sigmoid_loss: SigLIP's loss (arXiv:2303.15343) and its gradients in one walk over tiles of the logits.

The matrix is never stored: memory is O((N + K) D). Each tile is computed once, for loss and gradients together: three
matrix products in all, the minimum; two where the keys want no gradient.

Dimensions: N local rows, K rows of all ranks on the other side, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from multicl.distributed import World
from multicl.ops.blocks import Block, buffers
from multicl.ops.once import once
from multicl.ops.relation import Relation, Side
from multicl.ops.uncompiled import uncompiled


@uncompiled
def sigmoid_loss(
    a: Tensor, b: Tensor, scale: Tensor, bias: Tensor, relation: Relation, world: World | None = None
) -> Tensor:
    """-1/B sum_ij log sigmoid(y_ij (scale * a_i . b_j + bias)), over the rows of all ranks, of which a has B.

    Args:
        a: [N, D] this rank's rows, unit vectors for cosine similarity. b: [M, D].
        scale, bias: one element each; may want gradients.
        relation: y is 1 for positives and -1 for negatives; a pair that is neither counts nowhere.

    Returns:
        Scalar, the same on every rank; float32, or float64 where a is. Each rank's backward gives W times its share of
        the gradient; b's is summed on the ranks that own its rows. Differentiating twice raises RuntimeError.
    """
    world = world or World.current()
    with torch.autocast(a.device.type, enabled=False):
        kind = torch.promote_types(a.dtype, torch.float32)
        a, keys = a.to(kind), world.gather(b.to(kind))
        key = Side(world.gather(relation.b.row), world.gather(relation.b.id))
        scale, bias = scale.to(kind).reshape(1), bias.to(kind).reshape(1)
        wanted = torch.is_grad_enabled()
        total = _Sigmoid.apply(a, keys, scale, bias, key, relation, wanted)  # type: ignore[no-untyped-call]
        each = (total / max(len(a), 1)).expand(len(a))  # rows carry equal parts of the sum: their mean is sum / B
        return world.mean(each, torch.ones_like(each, dtype=torch.bool))


class _Sigmoid(torch.autograd.Function):
    """The sum over this rank's rows; forward also computes the gradients, and saves them for backward."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, keys: Tensor, scale: Tensor, bias: Tensor, key: Side, relation: Relation, wanted: bool
    ) -> Tensor:
        """A negative's logit l adds softplus(l), its slope is sigmoid(l); a positive's, softplus(-l), -sigmoid(-l)."""
        block = Block(a * scale, keys, relation.a, key, relation.equal_ids)
        wanted = wanted and any(ctx.needs_input_grad)
        loss = a.new_zeros(len(a))
        grad_a, grad_bias = torch.zeros_like(a), torch.zeros_like(bias)
        grad_keys = torch.zeros_like(keys) if ctx.needs_input_grad[1] else None
        if len(a) and len(keys):
            block.find_few()
            for tile, logits, positive, _ in block.walk(buffers(block, several=False)[0]):
                logits += bias
                if positive is not None:
                    own = positive.logits + bias
                    logits[positive.places] = -torch.inf
                    loss.index_add_(0, positive.places[0] + tile.rows.start, softplus(-own, threshold=40))
                loss[tile.rows] += softplus(logits, threshold=40).sum(1)
                if wanted:
                    slope = logits.sigmoid_()
                    if positive is not None:
                        slope[positive.places] = -torch.sigmoid(-own)
                    grad_a[tile.rows].addmm_(slope, keys[tile.columns])
                    if grad_keys is not None:
                        grad_keys[tile.columns].addmm_(slope.T, a[tile.rows])
                    grad_bias += slope.sum()
        if wanted:
            grad_scale = (grad_a * a).sum(1).double().sum().to(scale.dtype).reshape(1)  # sum_ij slope_ij cos_ij
            wants = next(x for x in (a, keys, scale, bias) if x.requires_grad)
            for grad in (grad_a, grad_keys):
                if grad is not None:
                    grad.mul_(scale)
            ctx.save_for_backward(grad_a, grad_keys, grad_scale, grad_bias, wants)
        return loss.sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients that forward saved."""
        *saved, wants = ctx.saved_tensors
        with torch.no_grad():
            found = (*(None if grad is None else grads[0] * grad for grad in saved), None, None, None)
        return once(found, wants, "it is computed in forward, without a graph")
