"""Triplets: is an anchor nearer to its positive than to its negative?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from multicl.evaluation.checks import paired, unit

if TYPE_CHECKING:
    from torch import Tensor


def triplet_accuracy(anchors: Tensor, positives: Tensor, negatives: Tensor) -> float:
    """Share of the rows whose anchor has a higher cosine with its positive than with its negative, in [0, 1].

    Ties count against the anchor, so that a collapsed model has 0.

    Args:
        anchors, positives, negatives: [N, D]; row i of each is one triplet.

    Raises:
        InputError: shapes that do not fit, NaN.
    """
    a, p = paired("anchors", anchors, "positives", positives)
    _, n = paired("anchors", anchors, "negatives", negatives)
    a, p, n = unit(a), unit(p), unit(n)
    return float(((a * p).sum(1) > (a * n).sum(1)).double().mean())
