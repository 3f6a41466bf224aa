"""Blocks of the matrix of logits, and the tiles in which they are walked.

Dimensions: n queries and k keys of a block; P positives of a tile; D width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from multicl.ops.relation import Side, related, sort_out

Places = tuple[Tensor, ...]
"""(rows, columns) of some of a tile's entries."""
KEPT = 2**22
"""A block of at most KEPT entries keeps its tiles for backward, which then need not compute products and exponentials
again. Most people's batches are that small, and have room for these 16 MB."""
MANY = 4
"""Where more than 1 in MANY entries of a tile is positive, the positives are a mask; where fewer are, a list of places
is faster."""
FEW = 16
"""Where a block has at most FEW entries of equal ids per query and key, it finds all of them at once, before it walks
its tiles."""
ALIKE, APART = 256, 16
"""On a CPU, a tile whose width is a multiple of ALIKE, but above it, has APART unused entries after each row. Without
them, the entries of one column would all compete for the same few cache lines."""
LOG2_E = math.log2(math.e)
"""Natural logits times LOG2_E are logits in base 2: exp2 takes half of the time of exp."""


def tile_size(device: torch.device) -> int:
    """Rows and columns of a tile: few enough for the cache of a CPU, enough to keep a GPU busy."""
    return 1024 if device.type == "cpu" else 8192


class Tile(NamedTuple):
    """Ranges of a block's queries and keys."""

    rows: slice
    columns: slice
    diagonal: bool
    """It lies on the diagonal of a symmetric matrix: it holds both directions, and its own diagonal is self."""


class Positives(NamedTuple):
    """A tile's P positives."""

    places: Places
    logits: Tensor
    """[P]"""


class Walked(NamedTuple):
    """A tile with its logits."""

    tile: Tile
    logits: Tensor
    """[n, k], -inf where an entry counts nowhere; natural, or in base 2 if `walk` was asked for that."""
    positive: Positives | None
    mask: Tensor | None = None
    """[n, k] bool, in place of `positive` where positives are many: it takes a fraction of the time of a list."""


class End(NamedTuple):
    """One direction of a tile: rows `at` of the statistics, which lie along dimension `dim` of the tile."""

    at: slice
    dim: int

    def along(self, values: Tensor) -> Tensor:
        """The tile's part of values [N], in a shape that broadcasts against the tile: [n, 1] or [1, k]."""
        return values[self.at].unsqueeze(1 - self.dim)

    def of(self, places: Places) -> Tensor:
        """[P] rows of the statistics to which these places of the tile belong."""
        return places[self.dim] + self.at.start if self.at.start else places[self.dim]


@dataclass
class Block:
    """Queries against keys: a part of the matrix of logits."""

    x: Tensor
    """[n, D] queries, times the scale."""
    y: Tensor
    """[k, D] keys."""
    query: Side
    key: Side
    equal_ids: Literal["positive", "ignore"]
    own_row: Literal["positive", "ignore", "negative"] = "positive"
    rows: int = 0
    """Index of the first query in the statistics."""
    columns: int | None = None
    """Index of the first key in the statistics; None: the keys' own sums are not wanted."""
    symmetric: bool = False
    """The keys are the queries: only tiles on and above the diagonal are walked."""
    special: dict[tuple[int, int], tuple[Places | None, Places | None]] = field(default_factory=dict)
    """First row and column of a tile -> places of its positives and of its ignored entries, where they are few."""
    marks: Tensor | None = None
    """Fused form only: which of its tiles are special."""
    kept: list[Walked] = field(default_factory=list)
    """The tiles of a small block, kept for backward; they hold exponentials where forward replaced the logits."""

    @property
    def size(self) -> int:
        """Rows and columns of a tile here: fewer in a symmetric block, as half of each diagonal tile is wasted work."""
        size = tile_size(self.x.device)
        return size * 3 // 4 if self.symmetric and len(self.x) > size else size

    def tiles(self, size: int) -> Iterator[Tile]:
        """The tiles that are walked."""
        for i in range(0, len(self.x), size):
            for j in range(i if self.symmetric else 0, len(self.y), size):
                rows, columns = slice(i, min(i + size, len(self.x))), slice(j, min(j + size, len(self.y)))
                yield Tile(rows, columns, self.symmetric and i == j)

    def ends(self, tile: Tile) -> list[End]:
        """The directions that a tile serves: rows and, if wanted, columns; a diagonal tile gets both as well."""
        found = [End(slice(tile.rows.start + self.rows, tile.rows.stop + self.rows), 0)]
        if self.columns is not None:
            found.append(End(slice(tile.columns.start + self.columns, tile.columns.stop + self.columns), 1))
        return found

    @property
    def is_small(self) -> bool:
        """Whether its tiles are kept for backward."""
        tiles = self.tiles(self.size)
        entries: int = sum((t.rows.stop - t.rows.start) * (t.columns.stop - t.columns.start) for t in tiles)
        return entries <= KEPT

    def walk(self, out: Tensor | None, base_2: bool = False, masks: bool = False) -> Iterator[Walked]:
        """Yield every tile with its logits.

        Args:
            out: a buffer that all tiles write their logits to; None: each tile has memory of its own.
            base_2: logits are multiplied by LOG2_E, except those in `positive`.
            masks: where positives are many, they may come as a mask.
        """
        if self.kept:
            yield from self.kept
            return
        for tile in self.tiles(self.size):
            x, y = self.x[tile.rows], self.y[tile.columns]
            room = x.new_empty(len(x) * (len(y) + APART)) if out is None else out
            logits = shaped(room, len(x), len(y))
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
        """The tile's positives, as a mask where they are many and `masks` allows it, and its ignored entries.

        Places are cached where they are few, and found again each time where they are many.
        """
        key = (tile.rows.start, tile.columns.start)
        if key in self.special:
            return self.special[key]
        positive, ignored = related(self.query[tile.rows], self.key[tile.columns], self.equal_ids, self.own_row)
        if tile.diagonal and positive is not None:
            positive.fill_diagonal_(False)
        if masks and positive is not None:
            count, (rows, columns) = int(positive.sum()), positive.shape
            if count * MANY > rows * columns and count > 2 * rows:  # small batches have 1 or 2 a row
                return positive, _places(ignored)
        found = _places(positive), _places(ignored)
        if sum(len(places[0]) for places in found if places is not None) <= 4 * tile_size(self.x.device):
            self.special[key] = found
        return found

    def find_few(self) -> None:
        """Find all positive and ignored entries of the block at once, where they are few.

        Tiles then need no masks to find them. It also avoids fragmented memory: places that are kept, if allocated
        between such masks, keep the masks' memory from being reused.
        """
        size, (n, k) = self.size, (len(self.x), len(self.y))
        if max(n, k) <= size or self.special:
            return
        ids, order = self.key.id.sort(stable=True)
        first = torch.searchsorted(ids, self.query.id)
        counts = torch.searchsorted(ids, self.query.id, right=True) - first
        total = int(counts.sum())
        if total > FEW * (n + k):
            return
        before = (counts.cumsum(0) - counts - first).repeat_interleave(counts, output_size=total)
        rows = torch.arange(n, device=ids.device).repeat_interleave(counts, output_size=total)
        columns = order[torch.arange(total, device=ids.device) - before]
        if self.symmetric:
            walked = (columns // size >= rows // size) & (columns != rows)
            rows, columns = rows[walked], columns[walked]
        across = -(-k // size)
        tiles, order = (rows // size * across + columns // size).sort(stable=True)
        rows, columns = rows[order], columns[order]
        same_id = torch.ones_like(rows, dtype=torch.bool)
        same_row = self.query.row[rows] == self.key.row[columns]
        kinds = sort_out(same_id, lambda: same_row, self.equal_ids, self.own_row)
        rows, columns = rows % size, columns % size
        places = [{} if kind is None else _by_tile(tiles[kind], rows[kind], columns[kind]) for kind in kinds]
        for tile in self.tiles(size):
            number = tile.rows.start // size * across + tile.columns.start // size
            positive, ignored = (kind.get(number) for kind in places)
            self.special[tile.rows.start, tile.columns.start] = (positive, ignored)


def buffers(block: Block, several: bool) -> tuple[Tensor, Tensor]:
    """Two buffers that hold a tile each; the same one twice, unless `several` are needed."""
    size = block.size
    first = block.x.new_empty(min(size, len(block.x)) * (min(size, len(block.y)) + APART))
    return first, torch.empty_like(first) if several else first


def shaped(buffer: Tensor, rows: int, columns: int) -> Tensor:
    """The beginning of a buffer as a matrix [rows, columns]."""
    alike = buffer.device.type == "cpu" and columns > ALIKE and columns % ALIKE == 0
    each = columns + APART if alike else columns
    return buffer[: rows * each].view(rows, each)[:, :columns]


def _places(mask: Tensor | None) -> Places | None:
    places = None if mask is None else mask.nonzero(as_tuple=True)
    return places if places is not None and len(places[0]) else None


def _by_tile(tiles: Tensor, rows: Tensor, columns: Tensor) -> dict[int, Places]:
    """A tile's number -> its places, of places that are sorted by these numbers."""
    numbers, counts = torch.unique_consecutive(tiles, return_counts=True)
    each: list[int] = counts.tolist()
    return dict(zip(numbers.tolist(), zip(rows.split(each), columns.split(each), strict=True), strict=True))
