"""Views of texts: tokens are dropped at random positions, whatever they are, so this works for any language.

Deletion as in CLEAR (arXiv:2012.15466), spans as in DeCLUTR (arXiv:2006.03659), cut-off of a span as in
arXiv:2009.13818. Tokens that a tokenizer adds to every text stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from multicl.modalities.seeded import uniform
from multicl.types import Batch

DELETION, CROP, CUTOFF = 1, 2, 3
"""Random streams, one for each change."""


def thinned(
    batch: Batch, seeds: Tensor, deletion: float, crop: float, cutoff: float, special: Sequence[int] = ()
) -> Batch:
    """A random part of every row's tokens, in their order; at least one that is not special.

    Args:
        batch: `ids` [B, T], `mask` [B, T], `lengths` [B]. seeds: [B] int64; a row's draws depend on its seed alone.
        deletion: probability that a token is dropped, in [0, 1).
        crop: only one span is kept; its share of the text is drawn from [crop, 1]. 1: all is kept.
        cutoff: share of the text, in [0, 1), of one span that is dropped.
        special: ids that are never dropped.
    """
    ids, mask = batch.get("ids"), batch.get("mask")
    seeds = seeds.to(ids.device, non_blocking=ids.device.type != "cpu")
    free = mask
    for own in special:  # one by one: copying a tensor of them to a GPU would synchronise with it
        free = free & (ids != own)
    count = free.sum(1, keepdim=True)  # [B, 1]
    place = free.cumsum(1) - 1  # [B, T] index among the free
    kept = free
    if crop < 1:
        share, at = uniform(seeds, 2, CROP).split(1, dim=1)
        kept = kept & _span(place, count, (count * (crop + (1 - crop) * share)).round().clamp(min=1), at)
    if cutoff:
        kept = kept & ~_span(place, count, (count * cutoff).round(), uniform(seeds, 1, CUTOFF))
    if deletion:
        kept = kept & (uniform(seeds, ids.shape[1], DELETION) >= deletion)
    kept = (
        torch.where(kept.any(1, keepdim=True), kept | ~free, True) & mask
    )  # a row that would lose everything stays whole
    order = kept.long().argsort(dim=1, descending=True, stable=True)
    lengths = kept.sum(1)
    mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
    return batch.replace(ids=ids.gather(1, order), mask=mask, lengths=lengths).trimmed()


def _span(place: Tensor, count: Tensor, length: Tensor, at: Tensor) -> Tensor:
    """[B, T] bool: a span of `length` [B, 1] positions; draws `at` [B, 1] in [0, 1) place its start uniformly."""
    start = (at * (count - length + 1)).floor()
    return (place >= start) & (place < start + length)
