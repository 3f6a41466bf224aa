"""Triplets: is an anchor nearer to its positive than to its negative?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from multicl.evaluation.checks import paired, unit
from multicl.evaluation.figure import mean_of

if TYPE_CHECKING:
    from torch import Tensor

    from multicl.evaluation.figure import Figure


def triplet_accuracy(anchors: Tensor, positives: Tensor, negatives: Tensor) -> Figure:
    """Share of the rows whose anchor has a higher cosine with its positive than with its negative, in [0, 1].

    Ties count against the anchor, so that a collapsed model scores 0.

    Args:
        anchors, positives, negatives: [N, D]; row i of each is one triplet.

    Raises:
        InputError: shapes that do not fit, NaN.
    """
    a, p = paired("anchors", anchors, "positives", positives)
    _, n = paired("anchors", anchors, "negatives", negatives)
    a, p, n = unit(a), unit(p), unit(n)
    return mean_of((a * p).sum(1) > (a * n).sum(1))
