"""How well two random views of a thing find each other: a measure for data with neither labels nor counterparts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from multicl.data.ahead import loaded
from multicl.data.equal_files import Files
from multicl.data.ids import content_ids
from multicl.evaluation.held_out import Figures
from multicl.evaluation.retrieval import retrieval
from multicl.seeds import row_seeds
from multicl.types import BadSample, Batch, InputError, Modality

if TYPE_CHECKING:
    from multicl.data.rows import Rows
    from multicl.model import Model

EmbedBatch = Callable[[str, Batch], Tensor]
"""(node, a batch as the adapter's `view` returns it) -> [B, D]."""
MOST = 1000
"""Most rows that are measured. Recall falls as rows are added, so a fixed number keeps figures comparable."""


def of_model(model: Model) -> EmbedBatch:
    """Embeddings of a model, in its default space."""
    return model.embed_batch


def of_raw() -> EmbedBatch:
    """The views themselves as vectors (pixels, say), the baseline that a figure must beat; all must have one size."""
    return lambda node, batch: next(iter(batch.tensors.values()))


def own_views(
    embed: EmbedBatch, modalities: dict[str, Modality], node: str, rows: Rows, batch_size: int = 128
) -> Figures:
    """Retrieval of each thing's second strong view by its first, among those of all; views are drawn as in training.

    It tells how well a model has learnt the task it was trained on, also on things that it has not seen; not what that
    is good for. Things with equal content (texts, files) are all correct results. Views are the same at every call.

    Args:
        rows: the first 1,000 are measured; cells that are missing or cannot be read are left out.

    Returns:
        "NODE_view_recall@1" and "NODE_view_recall@10", in [0, 1].

    Raises:
        InputError: fewer than two things can be read.
    """
    modality = modalities[node]
    cells = rows.first(MOST).resolved(modality.column or node, modality.files)
    a, b, places = two_views(embed, modality, node, cells, "own views", batch_size)
    if len(places) < 2:
        raise InputError(f"{rows.label}: fewer than two cells of {node!r} can be read")
    looked = Files() if modality.files else None
    ids = torch.from_numpy(content_ids([[cells[at] for at in places]], places, [looked])[0])
    found = retrieval(a, b, ids, ids, ks=(1, 10))
    return {f"{node}_view_{name}": found[name] for name in ("recall@1", "recall@10")}


def two_views(
    embed: EmbedBatch, modality: Modality, node: str, cells: Sequence[Any], what: str, batch_size: int = 128
) -> tuple[Tensor, Tensor, list[int]]:
    """[N, D] of one strong view of each cell that can be read, [N, D] of another, and the positions of these cells.

    Args:
        what: seeds the draws: equal strings give equal views.
    """
    there = [at for at, cell in enumerate(cells) if cell is not None]
    each = zip(there, loaded(modality, [cells[at] for at in there], most=len(there)), strict=True)
    samples = {at: sample for at, sample in each if not isinstance(sample, BadSample)}
    places = list(samples)
    sides: tuple[list[Tensor], list[Tensor]] = ([torch.zeros(0)], [torch.zeros(0)])
    for start in range(0, len(places), batch_size):
        some = places[start : start + batch_size]
        batch = modality.collate([samples[at] for at in some])
        batch.row = torch.tensor(some)
        for draw, side in enumerate(sides):
            view = modality.view(batch, row_seeds(batch.row, 0, what, draw), "strong")
            side.append(embed(node, view).flatten(1).float().cpu())
    a, b = (torch.cat(side) for side in sides)
    return a, b, places
