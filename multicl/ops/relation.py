"""Which keys are positive, negative or nothing to a query, and what a row's statistics are: the nouns of `contrast`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from multicl.types import Extra

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Extra", "Relation", "Side", "Stats", "Sums", "of_other_ids", "part", "related", "sort_out"]


def part(z: Tensor, at: slice) -> Tensor:
    """z[at], or z itself where that is all rows: making a view takes time, which matters in small batches on a GPU."""
    return z if at == slice(0, len(z)) else z[at]


@dataclass(frozen=True)
class Side:
    """What the relation needs to know about the rows of one side. Equal rows have equal ids."""

    row: Tensor
    """[N] int64 stable row of the data set."""
    id: Tensor
    """[N] int64 what the row is about."""

    def __getitem__(self, at: slice) -> Side:
        return Side(part(self.row, at), part(self.id, at))


@dataclass(frozen=True)
class Relation:
    """The two sides, and what equal ids mean.

    Self (the diagonal of a symmetric matrix): nowhere. Positive: same row, or equal id under `equal_ids="positive"`.
    Neither: equal id under "ignore". Negative: all else.
    """

    a: Side
    b: Side
    equal_ids: Literal["positive", "ignore"] = "positive"


@dataclass(frozen=True)
class Sums:
    """One direction's statistics, one value per local row; float32 (float64 for float64 input)."""

    lse: Tensor
    """[T, N] log of the sum of exp(tilt * logit) over the keys; 0 where a row has no key."""
    positive: Tensor
    """[N] sum of the positives' logits."""
    positives: Tensor
    """[N] number of positives, in the float type of the logits."""

    @property
    def first(self) -> Tensor:
        """[N] lse of the first tilt."""
        return self.lse.squeeze(0) if len(self.lse) == 1 else self.lse[0]  # squeeze: no copy in backward

    @property
    def valid(self) -> Tensor:
        """[N] bool: rows that have a positive."""
        return self.positives > 0


@dataclass(frozen=True)
class Stats:
    """Sums of a's rows over b's keys and of b's rows over a's; b is None where there is only one direction."""

    a: Sums
    b: Sums | None


def related(
    query: Side,
    key: Side,
    equal_ids: Literal["positive", "ignore"],
    own_row: Literal["positive", "ignore", "negative"],
) -> tuple[Tensor | None, Tensor | None]:
    """[n] queries and [k] keys -> [n, k] bool masks (positive, ignored), None where empty; all else is negative.

    Args:
        own_row: what a key of the query's own row is: "positive" between two sides; of extra keys see `Extra`.
    """
    return sort_out(query.id[:, None] == key.id, lambda: query.row[:, None] == key.row, equal_ids, own_row)


def sort_out(
    same_id: Tensor,
    row: Callable[[], Tensor],
    equal_ids: Literal["positive", "ignore"],
    own_row: Literal["positive", "ignore", "negative"],
) -> tuple[Tensor | None, Tensor | None]:
    """As `related`, of entries of any shape.

    Args:
        same_id: whether query and key have equal ids. row: the same of rows; called only where it matters.
    """
    if equal_ids == "positive" and own_row != "ignore":  # equal rows have equal ids, where rows mean something
        return same_id, None
    if own_row == "negative":
        return None, same_id
    same_row = row()
    if own_row == "positive":
        return same_row, same_id & ~same_row
    return (same_id & ~same_row, same_row) if equal_ids == "positive" else (None, same_id | same_row)


def of_other_ids(query: Tensor, keys: Tensor) -> Tensor:
    """[n] how many keys are of another id than a query's, of their ids [n] and [k]."""
    ids = keys.sort().values
    return len(ids) - (torch.searchsorted(ids, query, right=True) - torch.searchsorted(ids, query))
