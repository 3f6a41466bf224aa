"""Retrieval within one labelled set, each row among all others: the measures of metric learning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from multicl.distributed import World
from multicl.evaluation.checks import Ids, codes, features, positive, unit
from multicl.evaluation.figure import mean_of
from multicl.evaluation.tiles import by_slices, tile_rows
from multicl.types import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence


def retrieval_within(
    x: Tensor,
    labels: Ids,
    ks: Sequence[int] = (1, 2, 4, 8),
    chunk: int = 1024,
    world: World | None = None,
) -> dict[str, float]:
    """How well rows find others with their label; no row finds itself, as it would in `retrieval(x, x, ...)`.

    R is the number of other rows with a row's label. R-precision is the share of its R nearest rows that have the
    label. MAP@R is the mean over those R ranks of the precision at each that has it, and of 0 at the others
    (arXiv:2003.08505). Similarity is the cosine. Ties count against a row, so that a collapsed model finds nothing.

    Args:
        x: [N, D]. labels: [N] ints or strings; the classes may be those of training, or new ones.
        ks: a row is a hit at k if any of its k nearest has its label.
        chunk: rows of a tile of similarities; fewer where N is large, so that a tile stays within 16 MB.
        world: ranks that share the rows; all must call this with the same arguments, and get the same figures.

    Returns:
        `recall@k` for every k, `r_precision` and `map@r`, in [0, 1] and with intervals; and `without_truth`, the
        number of rows whose label no other row has: these are no queries, but may be found.

    Raises:
        InputError: shapes that do not fit, NaN, k or chunk not above 0, no two rows with the same label.
    """
    for name, value in (*(("ks", k) for k in ks), ("chunk", chunk)):
        positive(name, value)
    x = unit(features("x", x))
    (label,) = (each.to(x.device) for each in codes(("labels", labels, len(x))))
    others = label.bincount()[label] - 1
    if not bool(others.any()):
        raise InputError(f"no two of the {len(x)} rows share a label: there is nothing to find")
    tie = 16 * torch.finfo(x.dtype).eps
    depth = min(max(*ks, int(others.max())), len(x) - 1)
    place = torch.arange(1, depth + 1, device=x.device)

    def search(rows: slice) -> Tensor:
        cos, true = x[rows] @ x.T, label[rows, None] == label
        cos = torch.where(true, cos - tie, cos)  # rows of other labels win every tie
        cos.diagonal(offset=rows.start).fill_(-torch.inf)
        hits = true.gather(1, cos.topk(depth, dim=1).indices)
        wanted = others[rows, None]
        first = hits & (place <= wanted)  # among the R nearest
        precision = hits.cumsum(1) / place.double()
        gains = torch.stack([first.double(), first * precision], 2).sum(1) / wanted.clamp(min=1)
        found = torch.stack([hits[:, :k].any(1) for k in ks], 1)
        return torch.cat([found, gains], 1).cpu()

    empty = torch.zeros(0, len(ks) + 2, dtype=torch.float64)
    figures = by_slices(len(x), tile_rows(chunk, len(x)), search, empty, world or World())[others.cpu() > 0]
    names = (*(f"recall@{k}" for k in ks), "r_precision", "map@r")
    out: dict[str, float] = {name: mean_of(each) for name, each in zip(names, figures.T, strict=True)}
    return {**out, "without_truth": float((others == 0).sum())}
