"""Views of texts: tokens dropped at random places, whatever they are, so that any script will do.

Deletion as in CLEAR (arXiv:2012.15466), spans as in DeCLUTR (arXiv:2006.03659), cut-off of a span as in
arXiv:2009.13818. Tokens that a tokenizer puts around every text stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from multicl.modalities.seeded import uniform
from multicl.types import Batch

DELETION, CROP, CUTOFF = 1, 2, 3
"""Streams of draws."""


def thinned(
    batch: Batch, seeds: Tensor, deletion: float, crop: float, cutoff: float, special: Sequence[int] = ()
) -> Batch:
    """A random part of every row's tokens, in their order; at least one that is not special.

    Args:
        batch: `ids` [B, T], `mask` [B, T], `lengths` [B]. seeds: [B] int64; a row's draws depend on its seed alone.
        deletion: probability that a token is dropped, in [0, 1).
        crop: one span is kept, whose share of the text is drawn from [crop, 1]; 1: all.
        cutoff: share of the one span that is dropped, in [0, 1).
        special: ids that are never dropped.
    """
    ids, mask = batch.get("ids"), batch.get("mask")
    seeds = seeds.to(ids.device, non_blocking=ids.device.type != "cpu")
    free = mask
    for own in special:  # one by one: a tensor of them would be copied to a GPU, which is waited for
        free = free & (ids != own)
    count = free.sum(1, keepdim=True)  # [B, 1]
    place = free.cumsum(1) - 1  # [B, T] among the free
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
    )  # a row of which nothing is left stays whole
    order = kept.long().argsort(dim=1, descending=True, stable=True)
    lengths = kept.sum(1)
    mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
    return batch.replace(ids=ids.gather(1, order), mask=mask, lengths=lengths).trimmed()


def _span(place: Tensor, count: Tensor, length: Tensor, at: Tensor) -> Tensor:
    """[B, T] bool: a span of `length` [B, 1] places, whose start is uniform, by `at` [B, 1] in [0, 1)."""
    start = (at * (count - length + 1)).floor()
    return (place >= start) & (place < start + length)
