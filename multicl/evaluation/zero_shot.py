"""Zero-shot classification: the class whose description lies nearest, with no label seen."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from multicl.distributed import World
from multicl.evaluation.checks import Ids, codes, features, positive, unit
from multicl.evaluation.figure import Figure, mean_of
from multicl.evaluation.tiles import by_slices, tile_rows
from multicl.types import InputError


def zero_shot_accuracy(
    x: Tensor,
    labels: Ids,
    descriptions: Tensor,
    described: Ids,
    chunk: int = 1024,
    world: World | None = None,
) -> Figure:
    """Share of rows whose nearest class is the true one; cosine similarity. CLIP, arXiv:2103.00020, section 3.1.

    Args:
        x: [N, D] pictures, say.
        labels: [N] ints or strings.
        descriptions: [C, D] of classes in words. Several of one class ("a photo of a dog", "a drawing of a dog") are
            averaged as unit vectors (section 3.1.4).
        described: [C] the class that each is of; a label without a description is never right.
        chunk: rows at a time. world: ranks that share the rows; all call this alike.

    Returns:
        Accuracy in [0, 1]. A tie between a true and a false class counts as wrong: a collapsed model knows nothing.

    Raises:
        InputError: shapes that do not fit, NaN, one class alone.
    """
    positive("chunk", chunk)
    x = features("x", x)
    descriptions = features("descriptions", descriptions, like=("x", x)).to(x.dtype)
    of, truth = codes(("described", described, len(descriptions)), ("labels", labels, len(x)))
    classes = int(of.max()) + 1
    if classes < 2:
        raise InputError("described holds one class; zero-shot needs at least two")
    sums = descriptions.new_zeros(classes, descriptions.shape[1])
    centres = F.normalize(sums.index_add_(0, of.to(x.device), unit(descriptions)), dim=1)
    rows, truth, tie = unit(x), truth.to(x.device), 8 * torch.finfo(x.dtype).eps

    def right(part: slice) -> Tensor:
        cos, wanted = rows[part] @ centres.T, truth[part, None]
        true = torch.arange(classes, device=x.device) == wanted
        best = cos.masked_fill(~true, -torch.inf).amax(1)
        return (best > cos.masked_fill(true, -torch.inf).amax(1) + tie).long()

    return mean_of(by_slices(len(x), tile_rows(chunk, classes), right, truth[:0], world or World()))
