"""The objectives as plain functions of tensors, for people who have a loop of their own.

Any float dtype, [N, D]; means over rows. Under torch.distributed the rows of all ranks are contrasted, and each rank's
gradient is W times its share: DistributedDataParallel's mean is the one-process gradient.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from multicl.distributed import World
from multicl.objectives.softmax import info_nce_loss
from multicl.objectives.softmax import unit as unit_rows
from multicl.ops.contrast import Extra, Relation, Side, contrast
from multicl.types import InputError

Similarity = Literal["cosine", "dot"]


def nt_xent(z1: Tensor, z2: Tensor, temperature: float | Tensor = 0.5, *, similarity: Similarity = "cosine") -> Tensor:
    """NT-Xent (SimCLR, arXiv:2002.05709, equation 1): row i of z1 and of z2 are two views of one thing.

    Args:
        z1, z2: [N, D]. temperature: above 0; a tensor may want a gradient.

    Returns:
        Scalar: the mean over the 2N rows of this and every other rank.
    """
    z1, z2 = _checked(z1, z2, similarity, equal_rows=True)
    row = _rows(z1)
    both = torch.cat([row, row])
    side = Side(both, both)
    scale, unit = _scale(temperature, z1), similarity == "cosine"
    stats = contrast(torch.cat([z1, z2]), None, scale, Relation(side, side), unit=unit)
    return info_nce_loss(stats, World.current())


def info_nce(
    a: Tensor,
    b: Tensor,
    temperature: float | Tensor = 0.07,
    both_directions: bool = True,
    extra_keys: Tensor | None = None,
    *,
    similarity: Similarity = "cosine",
) -> Tensor:
    """InfoNCE (arXiv:1807.03748), CLIP's symmetric form by default: row i of a and of b belong together.

    Args:
        a, b: [N, D]. extra_keys: [X, D] negatives for a's rows (a queue, mined ones). temperature: as in `nt_xent`.

    Returns:
        Scalar: the mean over rows of a->b, or of both directions.
    """
    a, b = _checked(a, b, similarity, equal_rows=True)
    side = Side(_rows(a), _rows(a))
    extra = None
    if extra_keys is not None:
        keys, _ = _checked(extra_keys, a, similarity, equal_rows=False)
        nobody = torch.full((len(keys),), -1, device=a.device)
        extra = Extra(keys, nobody, nobody)
    scale, unit = _scale(temperature, a), similarity == "cosine"
    stats = contrast(a, b, scale, Relation(side, side), extra_a=extra, both=both_directions, unit=unit)
    return info_nce_loss(stats, World.current())


def _checked(a: Tensor, b: Tensor, similarity: Similarity, equal_rows: bool) -> tuple[Tensor, Tensor]:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or (equal_rows and len(a) != len(b)):
        raise InputError(f"two [N, D] tensors are needed, got {list(a.shape)} and {list(b.shape)}")
    if similarity not in ("cosine", "dot"):
        raise InputError(f"similarity must be 'cosine' or 'dot', got {similarity!r}")
    return (unit_rows(a), unit_rows(b)) if similarity == "cosine" else (a, b)


def _scale(temperature: float | Tensor, like: Tensor) -> Tensor:
    if not isinstance(temperature, Tensor):
        if not temperature > 0:
            raise InputError(f"temperature must be above 0, got {temperature}")
        temperature = torch.tensor(temperature, dtype=like.dtype, device=like.device)
    return 1 / temperature


def _rows(z: Tensor) -> Tensor:
    """Distinct row numbers over all ranks."""
    return torch.arange(len(z), device=z.device) + (World.current().rank << 40)
