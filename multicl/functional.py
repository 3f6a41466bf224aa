"""The objectives as plain functions of tensors, for people who have a loop of their own.

Rows are [N, D] of any float dtype; sums are float32, or float64 for float64. Losses are means over rows. `similarity`:
"cosine", where a vector of norm below 1e-6 has cosine 0 and no gradient, or "dot", the vectors as they are. A
temperature, scale or bias may be a number, or a tensor of one element that wants a gradient.

Under torch.distributed the rows of all ranks are contrasted, and no row of one rank is a row of another; ranks may hold
different numbers of rows, or none, but every rank must call. For a loss on one rank only, as in validation, use
`with alone():`. Each rank's gradient is W times its share, so that DistributedDataParallel's mean over ranks is the
one-process gradient.

Take gradients by `backward` or `torch.autograd.grad`. `torch.func`'s grad and vmap work for margin_contrastive; the
other losses have custom backward passes, for which they mostly raise torch's RuntimeError. Under `torch.compile` the
losses run outside the compiled graph, so fullgraph=True is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from multicl.distributed import World, alone
from multicl.objectives.distance import margin_rows
from multicl.objectives.hard_negative import check_negatives
from multicl.objectives.margin import check_margin
from multicl.objectives.negatives import DecoupledRows, HardRows, RowLoss, negatives_loss
from multicl.objectives.ordered import order_loss
from multicl.objectives.own_key import own_key_nce
from multicl.objectives.softmax import mean_nce
from multicl.ops.contrast import Extra, Relation, Side, contrast, is_low
from multicl.ops.sigmoid import sigmoid_loss as sigmoid_op
from multicl.ops.small import LARGEST, is_small, labelled_loss, paired_loss, paired_sigmoid
from multicl.ops.uncompiled import uncompiled
from multicl.types import InputError
from multicl.vectors import Similarity, column, integers, inverse, is_cosine, scalar, sides, vectors

__all__ = [
    "alone", "co_sent", "decoupled", "hard_negative", "info_nce", "margin_contrastive", "nt_xent", "sigmoid_loss",
    "sup_con",
]  # fmt: skip


NOBODY = -1
"""The row of extra keys, and the id of those that are nobody's positives: no query has either."""


@uncompiled
def nt_xent(z1: Tensor, z2: Tensor, temperature: float | Tensor = 0.5, *, similarity: Similarity = "cosine") -> Tensor:
    """NT-Xent (SimCLR, arXiv:2002.05709, equation 1): row i of z1 and of z2 are two views of one thing.

    Args:
        z1, z2: [N, D]. temperature: above 0.

    Returns:
        Scalar: the mean over the 2N rows of every rank.
    """
    z, low = torch.cat(sides(z1, z2, "dot")), _low(z1, z2)
    scale, known = inverse(temperature, z)
    cosine, world = is_cosine(similarity), World.current()
    if cosine and world.size == 1 and is_small(len(z), scale if known is None else known):
        loss: Tensor = paired_loss(z, None, scale)
        return loss
    return mean_nce(z, None, scale, _two_views(z), cosine=cosine, known_scale=known, low=low, world=world)[0]


@uncompiled
def info_nce(
    a: Tensor,
    b: Tensor,
    temperature: float | Tensor = 0.07,
    both_directions: bool = True,
    extra_keys: Tensor | None = None,
    *,
    ids: Tensor | Sequence[int] | None = None,
    in_batch: bool = True,
    similarity: Similarity = "cosine",
) -> Tensor:
    """InfoNCE (arXiv:1807.03748), CLIP's symmetric form by default: row i of a and of b belong together.

    Args:
        a, b: [N, D]. temperature: above 0. both_directions: the mean of a->b and b->a; False: only a->b.
        extra_keys: [X, D] more negatives for every row of a (a queue, mined ones), not for those of b; may want
            gradients. They are not gathered: a queue is the same on every rank.
        ids: [N] integers, what a row is about (a caption that repeats, a label): rows of equal id are positives of each
            other, as in `sup_con`; an id below 0 is equal to no other. None: no two ids are equal.
        in_batch: False: the only negatives of a's rows are `extra_keys`, as in MoCo (arXiv:1911.05722); the loss is 0
            while there are none.

    Returns:
        Scalar: the mean over rows of a->b, or of both directions.
    """
    if not isinstance(both_directions, bool):
        raise InputError(
            f"both_directions must be True or False, got {type(both_directions).__name__}; give keys as extra_keys="
        )
    (a, b), low = sides(a, b, "dot", as_given=True), _low(a, b)
    scale, known = inverse(temperature, a)
    cosine, world = is_cosine(similarity), World.current()
    plain = extra_keys is None and ids is None and in_batch
    if cosine and plain and world.size == 1 and is_small(len(a), scale if known is None else known):
        loss: Tensor = paired_loss(a, b, scale, both_directions)
        return loss
    side, extra = _side(a) if ids is None else _labelled(ids, "ids", a), []
    if extra_keys is not None:
        keys = vectors(extra_keys, "dot", "extra_keys", a, as_given=True)
        nobody = torch.full((len(keys),), NOBODY, device=a.device)
        extra = [Extra(keys, nobody, nobody)]
    if not in_batch:
        if both_directions or ids is not None or not extra:
            raise InputError("in_batch=False needs both_directions=False and extra_keys=, and takes no ids=")
        return own_key_nce(a, b, scale, side, extra, cosine=cosine, known_scale=known, low=low, world=world)[0]
    return mean_nce(
        a, b, scale, Relation(side, side), extra, cosine=cosine, both=both_directions, known_scale=known, low=low,
        world=world,
    )[0]  # fmt: skip


@uncompiled
def sup_con(
    z: Tensor,
    labels: Tensor | Sequence[int],
    temperature: float | Tensor = 0.1,
    extra_keys: Tensor | None = None,
    extra_labels: Tensor | Sequence[int] | None = None,
    *,
    similarity: Similarity = "cosine",
) -> Tensor:
    """SupCon (arXiv:2004.11362, equation 2: L_out): rows of one label are positives of each other.

    Args:
        z: [N, D], every view a row of its own. labels: [N] integers; below 0: unlabelled, each a class of its own.
            temperature: above 0. extra_keys: [X, D] more keys for this rank's rows, which are no queries themselves:
            a memory of earlier steps, say (arXiv:1912.06798). extra_labels: [X] their labels, as `labels`. Add rows,
            of all ranks, to a memory only after the loss: they would be positives of themselves.

    Returns:
        Scalar: the mean over the rows that have a positive; 0 where none has.
    """
    if isinstance(z, Tensor) and z.ndim == 3:
        raise InputError(
            f"z must be [rows, D], each view a row, got {list(z.shape)}; for [N, V, D]: sup_con(z.flatten(0, 1), "
            f"labels.repeat_interleave({z.shape[1]}))"
        )
    if (extra_keys is None) != (extra_labels is None):
        raise InputError("extra_keys and extra_labels go together: give both, or neither")
    z, low = vectors(z, "dot", as_given=True), _low(z)
    side = _labelled(labels, "labels", z)
    relation = Relation(side, side)
    scale, known = inverse(temperature, z)
    cosine, world = is_cosine(similarity), World.current()
    alone = world.size == 1 and z.device.type == "cpu"  # labels would synchronise with a GPU
    if extra_keys is None and cosine and alone and is_small(len(z), scale if known is None else known):
        loss: Tensor = labelled_loss(z, side.id, scale)
        return loss
    extra = _memory(z, extra_keys, extra_labels)
    return mean_nce(z, None, scale, relation, extra, cosine=cosine, known_scale=known, low=low, world=world)[0]


@uncompiled
def sigmoid_loss(
    a: Tensor, b: Tensor, scale: float | Tensor, bias: float | Tensor, *, similarity: Similarity = "cosine"
) -> Tensor:
    """SigLIP's loss (arXiv:2303.15343): -1/B sum_ij log sigmoid(y_ij (scale * cos_ij + bias)).

    Args:
        a, b: [N, D]; y_ij is 1 where i = j, -1 elsewhere. scale: above 0; the paper begins at 10, bias at -10.

    Returns:
        Scalar; B is the number of rows of all ranks.
    """
    a, b = sides(a, b, similarity)
    scale, bias = scalar(scale, "scale", a), scalar(bias, "bias", a, any_sign=True)
    if World.current().size == 1 and 0 < len(a) ** 2 <= LARGEST:
        small: Tensor = paired_sigmoid(a, b, scale, bias)
        return small
    side = _side(a)
    loss: Tensor = sigmoid_op(a, b, scale, bias, Relation(side, side))
    return loss


def margin_contrastive(a: Tensor, b: Tensor, similar: Tensor | Sequence[bool], margin: float = 1.0) -> Tensor:
    """The margin loss of Hadsell, Chopra and LeCun 2006, on the Euclidean distance D of the vectors as given.

    Args:
        a, b: [N, D]. similar: [N] bool, whether row i of a and of b should be near. margin: above 0.

    Returns:
        Scalar: the mean over rows of D^2 / 2 where similar, max(0, margin - D)^2 / 2 elsewhere.
    """
    check_margin(margin)
    a, b = sides(a, b, "dot")
    near = column(similar, "similar", "booleans", a)
    if len(a) and near.dtype != torch.bool:
        raise InputError(f"similar must be {len(a)} booleans, one a row, got {list(near.shape)} {near.dtype}")
    loss, _ = margin_rows(a, b, near.bool(), margin)
    return World.current().mean(loss, torch.ones_like(near, dtype=torch.bool))


def co_sent(
    a: Tensor,
    b: Tensor,
    scores: Tensor | Sequence[float],
    scale: float | Tensor = 20.0,
    *,
    similarity: Similarity = "cosine",
) -> Tensor:
    """CoSENT (Su 2022): log(1 + sum over score_i > score_j of exp(scale * (cos_j - cos_i))).

    Args:
        a, b: [N, D]. scores: [N] how near row i of a and of b should be, in any unit; NaN: unknown. scale: above 0.

    Returns:
        Scalar over the rows of all ranks; 0 where no two scores differ. Memory is linear in N.
    """
    a, b = sides(a, b, similarity)
    scale = scalar(scale, "scale", a)
    score = column(scores, "scores", "numbers", a).to(torch.float64)  # rounding may change their order
    return order_loss(scale * (a * b).sum(1), score, World.current())


@uncompiled
def hard_negative(
    z1: Tensor,
    z2: Tensor,
    temperature: float | Tensor = 0.5,
    beta: float = 1.0,
    tau_plus: float = 0.1,
    *,
    similarity: Similarity = "cosine",
) -> Tensor:
    """Debiased contrast with hard negatives (arXiv:2010.04592): NT-Xent in which near negatives weigh more.

    Args:
        z1, z2: [N, D], two views of each row. temperature: above 0. beta: 0 or more, the weight of near negatives.
            tau_plus: in [0, 1), the share of negatives that are really positives.

    Returns:
        Scalar: the mean over the 2N rows; 0 where all ranks together have only one row, which has no negative.
    """
    check_negatives(beta, tau_plus)
    return _against_negatives(z1, z2, temperature, HardRows(beta, tau_plus), similarity)


@uncompiled
def decoupled(z1: Tensor, z2: Tensor, temperature: float | Tensor, *, similarity: Similarity = "cosine") -> Tensor:
    """DCL (arXiv:2110.06848): NT-Xent that leaves the positive out of the denominator.

    Args:
        z1, z2: [N, D], two views of each row. temperature: above 0.

    Returns:
        Scalar: the mean over the 2N rows; 0 where all ranks together have only one row, which has no negative.
    """
    return _against_negatives(z1, z2, temperature, DecoupledRows(), similarity)


def _against_negatives(
    z1: Tensor, z2: Tensor, temperature: float | Tensor, rows: RowLoss, similarity: Similarity
) -> Tensor:
    z, low = torch.cat(sides(z1, z2, similarity)), _low(z1, z2)
    relation, cosine = _two_views(z), is_cosine(similarity)
    scale, known = inverse(temperature, z)
    stats = contrast(
        z, None, scale, relation, tilts=rows.tilts, positives_in_sum=False, unit=cosine, known_scale=known, low=low
    )
    return negatives_loss(stats, relation, scale, rows, World.current())


def _memory(z: Tensor, keys: Tensor | None, labels: Tensor | Sequence[int] | None) -> list[Extra]:
    """Labelled keys for the rows of z; keys without a label are nobody's positives."""
    if keys is None or labels is None:
        return []
    keys = vectors(keys, "dot", "extra_keys", z, as_given=True)
    label = integers(labels, "extra_labels", keys).to(z.device)
    return [Extra(keys, torch.full_like(label, NOBODY), label.clamp(min=NOBODY))]


def _two_views(z: Tensor) -> Relation:
    """The relation of two views [2N, D] in one matrix: rows i and N + i are the same row."""
    row = torch.cat([_side(z[: len(z) // 2]).row] * 2)
    return Relation(Side(row, row), Side(row, row))


def _low(*given: Tensor) -> bool | None:
    """True if all rows were given in bf16 or half; else None: autocast decides."""
    return all(is_low(z.dtype) for z in given) or None


def _side(z: Tensor) -> Side:
    """Row numbers, distinct over all ranks, which are also the ids."""
    row, rank = torch.arange(len(z), device=z.device), World.current().rank
    row = row + (rank << 40) if rank else row
    return Side(row, row)


def _labelled(values: Tensor | Sequence[int], name: str, z: Tensor) -> Side:
    """Rows of z with their labels as ids; each label below 0 becomes a class of its own."""
    row, label = _side(z).row, integers(values, name, z)
    return Side(row, torch.where(label < 0, NOBODY - 1 - row, label))
