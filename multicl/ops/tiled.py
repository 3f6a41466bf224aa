"""Logits walked a tile at a time, forward and backward, in torch's own products: memory grows with N * D, not N * N.

A tile's row sums serve one direction and its column sums the other; of a symmetric matrix half the tiles are walked.
Dimensions: N rows of a side; n queries and k keys of a block; T tilts; D width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from multicl.ops.relation import Side, related
from multicl.ops.running import Running, Slopes

Places = tuple[Tensor, ...]
"""(rows, columns) of some of a tile's entries."""
KEPT = 2**22
"""Entries of a block, at most, that are kept from the way there, which spares a product and exponentials: smaller
batches are most people's, and have room for these 16 MB."""
MANY = 4
"""Where more than one entry in so many is positive, they are a mask: of fewer a list is quicker."""
ALIKE, APART = 256, 16
"""Rows of a tile whose width is a multiple of the one, but wider, stand apart by the other on a CPU: in one column of
theirs all numbers would fall into the same few lines of its cache."""
LOG2_E = math.log2(math.e)
"""Natural logits times this are those of powers of two, which take half of the time of powers of e."""


def tile_size(device: torch.device) -> int:
    """Rows and columns of a tile: on a CPU few enough for its cache, on a GPU enough to keep it busy."""
    return 1024 if device.type == "cpu" else 8192


class Tile(NamedTuple):
    """Ranges of a block's queries and keys."""

    rows: slice
    columns: slice
    diagonal: bool
    """It lies on the diagonal of a symmetric matrix: it holds both directions itself, and its own diagonal is self."""


class Positives(NamedTuple):
    """A tile's P positives."""

    places: Places
    logits: Tensor
    """[P]"""


class Walked(NamedTuple):
    """A tile with its logits."""

    tile: Tile
    logits: Tensor
    """[n, k], -inf where an entry counts nowhere; in base 2, as was asked, or natural."""
    positive: Positives | None
    mask: Tensor | None = None
    """[n, k] bool, in place of `positive`: many are looked at as a matrix, in a fraction of the time of a list."""


class End(NamedTuple):
    """One direction of a tile: the rows `at`, which lie along dimension `dim` of it."""

    at: slice
    dim: int

    def along(self, values: Tensor) -> Tensor:
        """Values [N] of the rows as they stand beside the tile: [n, 1] or [1, k]."""
        return values[self.at].unsqueeze(1 - self.dim)

    def of(self, places: Places) -> Tensor:
        """[P] rows of some places."""
        return places[self.dim] + self.at.start if self.at.start else places[self.dim]


@dataclass
class Block:
    """Queries against keys: a part of the matrix."""

    x: Tensor
    """[n, D] queries, times the scale."""
    y: Tensor
    """[k, D] keys."""
    query: Side
    key: Side
    equal_ids: Literal["positive", "ignore"]
    own_row: Literal["positive", "ignore", "negative"] = "positive"
    rows: int = 0
    """Place of the first query among the rows whose statistics are kept."""
    columns: int | None = None
    """Place of the first key among them; None: the keys' own sums are not wanted."""
    symmetric: bool = False
    """The keys are the queries: tiles on and above the diagonal are walked."""
    special: dict[tuple[int, int], tuple[Places | None, Places | None]] = field(default_factory=dict)
    """Beginnings of tiles -> places of positives and of ignored entries, where they are few."""
    marks: Tensor | None = None
    """Of the fused form: which of its tiles are special."""
    kept: list[Walked] = field(default_factory=list)
    """Of a small block: what the way back needs of its tiles; exponentials, where they serve it as they are."""

    @property
    def size(self) -> int:
        """Rows and columns of a tile here: fewer where half of those on the diagonal is walked in vain."""
        size = tile_size(self.x.device)
        return size * 3 // 4 if self.symmetric and len(self.x) > size else size

    def tiles(self, size: int) -> Iterator[Tile]:
        """The tiles that are walked."""
        for i in range(0, len(self.x), size):
            for j in range(i if self.symmetric else 0, len(self.y), size):
                rows, columns = slice(i, min(i + size, len(self.x))), slice(j, min(j + size, len(self.y)))
                yield Tile(rows, columns, self.symmetric and i == j)

    def ends(self, tile: Tile) -> list[End]:
        """The directions that a tile serves; of a diagonal tile both are given."""
        found = [End(slice(tile.rows.start + self.rows, tile.rows.stop + self.rows), 0)]
        if self.columns is not None:
            found.append(End(slice(tile.columns.start + self.columns, tile.columns.stop + self.columns), 1))
        return found

    @property
    def is_small(self) -> bool:
        """Whether its tiles are kept."""
        tiles = self.tiles(self.size)
        entries: int = sum((t.rows.stop - t.rows.start) * (t.columns.stop - t.columns.start) for t in tiles)
        return entries <= KEPT

    def walk(self, out: Tensor | None, base_2: bool = False, masks: bool = False) -> Iterator[Walked]:
        """Every tile with its logits, which are written to `out`.

        Args:
            out: None: each tile's to memory of its own.
            base_2: they are LOG2_E times as great, but not those of the `positive`.
            masks: many positives may come as a mask.
        """
        if self.kept:
            yield from self.kept
            return
        for tile in self.tiles(self.size):
            x, y = self.x[tile.rows], self.y[tile.columns]
            room = x.new_empty(len(x) * (len(y) + APART)) if out is None else out
            logits = _part(room, len(x), len(y))
            torch.addmm(logits, x, y.T, beta=0, alpha=LOG2_E if base_2 else 1.0, out=logits)
            positive, ignored = self.look(tile, masks)
            own, mask = None, positive if isinstance(positive, Tensor) else None
            if isinstance(positive, tuple):
                own = Positives(positive, logits[positive] / LOG2_E if base_2 else logits[positive])
            if tile.diagonal:
                logits.fill_diagonal_(-torch.inf)
            if ignored is not None:
                logits[ignored] = -torch.inf
            yield Walked(tile, logits, own, mask)

    def look(self, tile: Tile, masks: bool = False) -> tuple[Places | Tensor | None, Places | None]:
        """The tile's positives, as a mask where they are many and that will do, and ignored entries.

        Few are remembered, many are looked for again.
        """
        key = (tile.rows.start, tile.columns.start)
        if key in self.special:
            return self.special[key]
        positive, ignored = related(self.query[tile.rows], self.key[tile.columns], self.equal_ids, self.own_row)
        if tile.diagonal and positive is not None:
            positive.fill_diagonal_(False)
        if masks and positive is not None:
            count, (rows, columns) = int(positive.sum()), positive.shape
            if count * MANY > rows * columns and count > 2 * rows:  # else of a pair a row, in a small batch
                return positive, _places(ignored)
        found = _places(positive), _places(ignored)
        if sum(len(places[0]) for places in found if places is not None) <= 4 * tile_size(self.x.device):
            self.special[key] = found
        return found

    def skip_unrelated(self) -> None:
        """Find the tiles in which no two ids are equal: none of their entries is special."""
        size = self.size
        if max(len(self.x), len(self.y)) <= size or self.special:
            return
        codes = torch.unique(torch.cat([self.query.id, self.key.id]), return_inverse=True)[1]
        queries, keys = codes.split([len(self.x), len(self.y)])
        seen = torch.zeros(len(codes), dtype=torch.bool, device=codes.device)
        hits = []
        for part in queries.split(size):
            seen.zero_()[part] = True
            hits.append(torch.stack([hit.any() for hit in seen[keys].split(size)]))
        shared = torch.stack(hits).tolist()
        for tile in self.tiles(size):
            if not shared[tile.rows.start // size][tile.columns.start // size]:
                self.special[tile.rows.start, tile.columns.start] = (None, None)


def forward(block: Block, running: Running) -> None:
    """Add a block's logits to the statistics of its queries and, where it has columns, of its keys."""
    if not (len(block.x) and len(block.y)):
        return
    block.skip_unrelated()
    tilts, shift = running.tilts, running.shift
    wide = shift is not None
    held, spare = buffers(block, several=wide or len(tilts) > 1)
    inner: Tensor | None = None
    base_2, others = _in_base_2(tilts, wide), running.others.unbind()
    small = block.is_small
    kept: list[Walked] = []
    for walked in block.walk(None if small else held, base_2, masks=True):
        tile, logits, positive, mask = walked
        ends = block.ends(tile)
        if tile.diagonal:
            del ends[1:]  # its rows meet all of its columns already
        if mask is not None:
            inner = torch.empty_like(held) if inner is None else inner
            _add_masked(running, ends, logits, mask, _part(inner, *mask.shape), LOG2_E if base_2 else 1.0)
        if wide and not running.positives_in_sum:  # beside a great positive the sum of all others would underflow
            if positive is not None:
                logits[positive.places] = -torch.inf
            elif mask is not None:
                logits.masked_fill_(mask, -torch.inf)
        for end in ends:
            if positive is not None:
                running.add_positives(positive.logits, end.of(positive.places))
            if wide:
                running.raise_to(logits.amax(1 - end.dim), end.at)
        for t, tilt in enumerate(tilts):
            for group in _groups(ends, wide):
                if base_2:
                    e = logits.exp2_()
                else:
                    e = _exponentials(logits, tilt, None if shift is None else tilt * group[0].along(shift), spare)
                if positive is not None:
                    inside = e[positive.places]
                    e[positive.places] = 0
                elif mask is not None:
                    assert inner is not None
                    part = torch.mul(e, mask, out=_part(inner, *e.shape))
                    for end in group:
                        running.inside[t, end.at].add_(part.sum(1 - end.dim))
                    e = torch.sub(e, part, out=part)
                for end in group:
                    others[t][end.at].add_(e.sum(1 - end.dim))
                    if positive is not None:
                        running.inside[t].index_add_(0, end.of(positive.places), inside)
        if small:
            kept.append(walked)
    block.kept = kept


def backward(block: Block, slopes: Slopes, wants_y: bool = True) -> tuple[Tensor, Tensor]:
    """Slopes of the statistics -> (dL/dx over the scale [n, D], dL/dy [k, D]) of the block's queries and keys.

    Of a symmetric block both are one tensor, over the scale: what its rows get as queries and as keys.
    """
    dx = torch.zeros_like(block.x)
    dy = dx if block.symmetric else torch.zeros_like(block.y)
    if not (len(block.x) and len(block.y)):
        return dx, dy
    x = block.y if block.symmetric else block.x
    tilts, lse = slopes.tilts, slopes.lse
    masks = not bool(slopes.single.any())  # whose one positive has a slope of its own
    if not masks and any(walked.mask is not None for walked in block.kept):
        block.kept = []
    several, kept = lse is not None or len(tilts) > 1, bool(block.kept)
    base_2, sums = _in_base_2(tilts, lse is not None), slopes.sums.unbind()
    held, spare = buffers(block, several or kept)
    whole = torch.empty_like(held) if several else spare
    both: Tensor | None = None
    for tile, logits, positive, mask in block.walk(held, base_2, masks=masks):
        ends = block.ends(tile)
        weights: Tensor | None = None
        for t, tilt in enumerate(tilts):
            for group in _groups(ends, lse is not None):
                out = whole if weights is None else spare
                e = logits
                if base_2 and not kept:
                    e = logits.exp2_()
                elif several or not kept:
                    e = _exponentials(logits, tilt, None if lse is None else group[0].along(lse[t]), out)
                factor, *more = (end.along(sums[t]) for end in group)
                if more:  # in a tile of its own: one allocated anew each time would be paid for in pages
                    both = torch.empty_like(held) if both is None else both
                    factor = torch.add(factor, more[0], out=_part(both, *e.shape))
                e = torch.mul(e, factor, out=_part(out, *e.shape))
                weights = e if weights is None else weights.add_(e)
        assert weights is not None
        if positive is not None:
            slope, *more = (slopes.of_positives(positive.logits, end.of(positive.places)) for end in ends)
            weights[positive.places] = slope + more[0] if more else slope
        elif mask is not None:
            slope, *more = (end.along(slopes.positive) for end in ends)
            if slopes.only is None:
                weights.masked_fill_(mask, 0)
            weights.addcmul_(mask.to(weights.dtype), slope + more[0] if more else slope)
        dx[tile.rows].addmm_(weights, block.y[tile.columns])
        if wants_y and not tile.diagonal:
            dy[tile.columns].addmm_(weights.T, x[tile.rows])
    return dx, dy


def _add_masked(running: Running, ends: list[End], logits: Tensor, mask: Tensor, room: Tensor, base: float) -> None:
    """Sums and numbers of a tile's positives go to the statistics; logits are natural ones times `base`."""
    own = torch.where(mask, logits, logits.new_zeros(()), out=room)
    for end in ends:
        running.positive[end.at].add_(own.sum(1 - end.dim), alpha=1 / base)
        running.count[end.at].add_(mask.sum(1 - end.dim))


def _groups(ends: list[End], wide: bool) -> list[list[End]]:
    """Ends that share their exponentials: wide ones have shifts of their own."""
    return [[end] for end in ends] if wide else [ends]


def _in_base_2(tilts: tuple[float, ...], wide: bool) -> bool:
    """Whether a tile's exponentials are those of its logits as they are, with neither a tilt nor a shift."""
    return tilts == (1.0,) and not wide


def _places(mask: Tensor | None) -> Places | None:
    places = None if mask is None else mask.nonzero(as_tuple=True)
    return places if places is not None and len(places[0]) else None


def _exponentials(logits: Tensor, tilt: float, shift: Tensor | None, out: Tensor) -> Tensor:
    """exp(tilt * logits - shift), written to `out`, which may be where the logits are; 0 for logits of -inf."""
    out = _part(out, *logits.shape)
    if tilt == 0:
        torch.eq(logits, -torch.inf, out=out)  # 0 * -inf is NaN
        torch.mul(out.neg_(), 1e38, out=out)
    elif tilt == 1 and shift is not None:
        torch.sub(logits, shift, out=out)
        return out.exp_()
    elif tilt != 1 or out.data_ptr() != logits.data_ptr():
        torch.mul(logits, tilt, out=out)
    if shift is not None:
        out -= shift
    return out.exp_()


def buffers(block: Block, several: bool) -> tuple[Tensor, Tensor]:
    """Room for a tile, and for another one, or the same."""
    size = block.size
    first = block.x.new_empty(min(size, len(block.x)) * (min(size, len(block.y)) + APART))
    return first, torch.empty_like(first) if several else first


def _part(buffer: Tensor, rows: int, columns: int) -> Tensor:
    """The buffer's beginning as a matrix."""
    alike = buffer.device.type == "cpu" and columns > ALIKE and columns % ALIKE == 0
    each = columns + APART if alike else columns
    return buffer[: rows * each].view(rows, each)[:, :columns]
