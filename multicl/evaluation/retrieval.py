"""Retrieval from one set of embeddings to another: recall, nDCG and mean average precision at k, and ranks."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from multicl.distributed import World
from multicl.evaluation.checks import Ids, codes, features, positive, unit
from multicl.evaluation.figure import Figure, mean_of
from multicl.evaluation.tiles import by_slices, tile_rows
from multicl.types import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Abouts = Ids | Sequence[int | str | Sequence[int] | Sequence[str]]


def ranks(queries: Tensor, items: Tensor, query_ids: Abouts, item_ids: Abouts, chunk: int = 1024) -> Tensor:
    """Rank of every query's best true item by cosine similarity: 1 is first, 0 means that no item is true.

    Ties count against the query: the rank is 1 + the number of false items at least as near as the best true one, so
    a collapsed model, to which everything is equally near, ranks last and not first. Similarities within 8 units of
    rounding are ties, as a dot product is no more exact than that.

    Args:
        queries: [N, D].
        items: [M, D].
        query_ids: [N] ints or strings; an item is true for every query with an equal id. An entry may hold several ids
            in a list, a tuple or a set: an item is true if it shares one with the query; an empty entry shares none.
        item_ids: [M], likewise.
        chunk: queries of a tile of similarities; fewer where M is large, so that a tile stays within 16 MB.

    Returns:
        [N] int64 on the CPU.

    Raises:
        InputError: shapes that do not fit, NaN, chunk not above 0.
    """
    return _search(queries, items, query_ids, item_ids, (), chunk)[0]


def _search(
    queries: Tensor, items: Tensor, query_ids: Abouts, item_ids: Abouts, ks: Sequence[int], chunk: int,
    world: World | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`ranks`, and [N, 2, len(ks)] float64 nDCG and average precision, 0 where no item is true."""
    positive("chunk", chunk)
    queries = features("queries", queries)
    items = features("items", items, like=("queries", queries))
    tie = 8 * max(torch.finfo(queries.dtype).eps, torch.finfo(items.dtype).eps)
    dtype = torch.promote_types(queries.dtype, items.dtype)
    queries, items = unit(queries.to(dtype)), unit(items.to(dtype))
    pairs = _truth(("query_ids", query_ids, len(queries)), ("item_ids", item_ids, len(items)), queries.device)

    def search(rows: slice) -> Tensor:
        cos = queries[rows] @ items.T  # [c, M]
        of, true = pairs(rows)
        count = torch.bincount(of, minlength=len(cos))  # true items of each query
        own = cos[of, true]
        least = own.new_full((len(cos),), -torch.inf).scatter_reduce(0, of, own, "amax") - tie
        near = cos >= least[:, None]
        ahead = near.sum(dim=1) - torch.bincount(of[own >= least[of]], minlength=len(cos))
        rank = torch.where(count > 0, ahead + 1, 0).cpu()
        cos[of, true] = own - 2 * tie  # false items win every tie
        top = cos.topk(min(max(ks, default=0), len(items)), dim=1).indices
        is_true = torch.zeros_like(near)
        is_true[of, true] = True
        gains = _graded(is_true.gather(1, top).cpu(), count.cpu(), ks)
        return torch.cat([rank[:, None].double(), gains.flatten(1)], 1)  # float64 holds every rank

    empty = torch.zeros(0, 1 + 2 * len(ks), dtype=torch.float64)
    found = by_slices(len(queries), tile_rows(chunk, len(items)), search, empty, world or World())
    return found[:, 0].long(), found[:, 1:].unflatten(1, (2, len(ks)))


def _truth(
    queries: tuple[str, Abouts, int], items: tuple[str, Abouts, int], device: torch.device
) -> Callable[[slice], tuple[Tensor, Tensor]]:
    """A function from a slice of queries to its true pairs: [P] query, counted from the slice's start, and [P] item.

    Args:
        queries, items: as in `codes`, but an entry may hold several ids.
    """
    flat, whose = zip(*(_flat(*side) for side in (queries, items)), strict=True)
    named = codes(*((side[0], ids, len(ids)) for side, ids in zip((queries, items), flat, strict=True)))
    wanted, held = (ids.to(device) for ids in named)
    asks, holds = (
        torch.arange(len(rows), device=device) if isinstance(rows, range) else torch.tensor(rows, device=device).long()
        for rows in whose
    )
    by_id, order = held.sort()
    first = torch.searchsorted(by_id, wanted)
    count = torch.searchsorted(by_id, wanted, right=True) - first  # items' ids that equal each id of a query
    one_each = all(isinstance(rows, range) for rows in whose)

    def pairs(rows: slice) -> tuple[Tensor, Tensor]:
        start, stop = bisect_left(whose[0], rows.start), bisect_left(whose[0], rows.stop)
        often = count[start:stop]
        of = torch.arange(start, stop, device=device).repeat_interleave(often)
        within = torch.arange(len(of), device=device) - (often.cumsum(0) - often)[of - start]
        query, item = asks[of] - rows.start, holds[order[first[of] + within]]
        if one_each:
            return query, item
        once = (query * items[2] + item).unique()  # a query and an item may share several ids
        return once // items[2], once % items[2]

    return pairs


def _flat(name: str, ids: Abouts, size: int) -> tuple[Any, Sequence[int]]:
    """All ids, and the row that each belongs to, in row order."""
    plain = isinstance(ids, Tensor) or (isinstance(ids, np.ndarray) and ids.dtype.kind in "iu")  # one id per row
    values: Any = ids if plain else list(ids.tolist() if hasattr(ids, "tolist") else ids)
    if len(values) != size:
        raise InputError(f"{name} has {len(values)} entries for {size} rows")
    if plain or not any(isinstance(value, list | tuple | set | frozenset) for value in values):
        return values, range(size)
    each = [value if isinstance(value, list | tuple | set | frozenset) else (value,) for value in values]
    return [part for parts in each for part in parts], [row for row, parts in enumerate(each) for _ in parts]


def _graded(hits: Tensor, count: Tensor, ks: Sequence[int]) -> Tensor:
    """[c, T] whether the nearest items are true, [c] how many exist -> [c, 2, len(ks)] nDCG and average precision."""
    top = hits.shape[1]
    hits = hits.double()
    place = torch.arange(1, top + 1, dtype=torch.float64)
    discount = 1 / (place + 1).log2()
    gain = (hits * discount).cumsum(1)  # at 1, 2, ..., top
    ideal = discount.cumsum(0)
    precision = (hits * hits.cumsum(1) / place).cumsum(1)
    columns = []
    for k in ks:
        at, most = min(k, top) - 1, count.clamp(max=min(k, top))
        best = most.clamp(min=1)
        found = torch.stack([gain[:, at] / ideal[best - 1], precision[:, at] / best], 1)
        columns.append(torch.where((most > 0)[:, None], found, 0.0))
    return torch.stack(columns, 2) if columns else torch.zeros(len(count), 2, 0, dtype=torch.float64)


def retrieval(
    queries: Tensor,
    items: Tensor,
    query_ids: Abouts,
    item_ids: Abouts,
    ks: Sequence[int] = (1, 5, 10),
    chunk: int = 1024,
    world: World | None = None,
) -> dict[str, float]:
    """How well queries find their items, with many-to-many truth; arguments and errors as in `ranks`.

    Within one set, where each row would find itself, use `retrieval_within`.

    Args:
        ks: a query is a hit at k if any of its k nearest items is true; its nDCG at k (Jarvelin and Kekalainen
            2002) sums 1 / log2(1 + rank) over the true ones and divides by the sum in the best order; its average
            precision is the sum of the precisions at the true items among the k, over min(k, number of true items).
        world: ranks that share the queries; all must call this with the same arguments, and get the same figures.

    Returns:
        `recall@k`, `ndcg@k` and `map@k` for every k and `mrr`, in [0, 1]; `median_rank`, from 1; and `without_truth`,
        the number of queries without a true item, which all other figures leave out. All but `without_truth` have
        intervals.

    Raises:
        InputError: as `ranks`; also k not above 0, or no query with a true item.
    """
    for k in ks:
        positive("ks", k)
    rank, gains = _search(queries, items, query_ids, item_ids, ks, chunk, world)
    known, gains = rank[rank > 0].double(), gains[rank > 0]
    if len(known) == 0:
        raise InputError("no value of query_ids occurs in item_ids: there is nothing to find")
    out: dict[str, float] = {f"recall@{k}": mean_of(known <= k) for k in ks}
    for name, each in zip(("ndcg", "map"), gains.unbind(1), strict=True):
        out |= {f"{name}@{k}": mean_of(gain) for k, gain in zip(ks, each.T, strict=True)}
    out["median_rank"] = Figure(_median(known), len(known), lambda index: _median(known[index]))
    out["mrr"] = mean_of(1 / known)
    out["without_truth"] = float(len(rank) - len(known))
    return out


def _median(x: Tensor) -> float:
    """Median; of an even number of values, the mean of the middle two."""
    ordered = x.sort().values
    return float(ordered[(len(x) - 1) // 2] + ordered[len(x) // 2]) / 2
