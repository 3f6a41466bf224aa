"""The k most similar keys of each query, found a tile of similarities at a time: memory grows with queries * k.

Dimensions: N queries; k keys kept; n queries and c keys of a tile.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from multicl.ops.blocks import tile_size


class Nearest:
    """The best k keys so far. Where fewer were allowed, the last values are -inf and their places mean nothing.

    Args:
        queries: [N, D]; only its number of rows, dtype and device matter. k: 1 or more.
    """

    def __init__(self, queries: Tensor, k: int) -> None:
        self.values = queries.new_full((len(queries), k), -torch.inf)
        """[N, k] similarities, greatest first."""
        self.places = torch.zeros(len(queries), k, dtype=torch.int64, device=queries.device)
        """[N, k] which keys they are."""

    @property
    def found(self) -> Tensor:
        """[N, k] bool: there is a key. A key of similarity NaN counts, so that the NaN shows."""
        return self.values != -torch.inf

    def add(self, rows: slice, similarity: Tensor, start: int) -> None:
        """Consider more keys for the queries `rows`.

        Args:
            similarity: [n, c], -inf for keys that are not allowed. start: the place of the first key.
        """
        k = self.values.shape[1]
        values, places = similarity.topk(min(k, similarity.shape[1]), dim=1)
        values = torch.cat([self.values[rows], values], 1)
        places = torch.cat([self.places[rows], places + start], 1)
        self.values[rows], best = values.topk(k, dim=1)
        self.places[rows] = places.gather(1, best)


def tiles(queries: int, keys: int, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """(rows, columns) of the tiles of [queries, keys], row by row."""
    size = tile_size(device)
    for i in range(0, queries, size):
        for j in range(0, keys, size):
            yield slice(i, min(i + size, queries)), slice(j, min(j + size, keys))
