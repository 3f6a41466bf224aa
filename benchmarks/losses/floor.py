"""The floor: only the matrix products that a loss needs if it does not store the logits.

For logits S = X Y^T of n x n and their gradient G there are four products of n*n*D multiplications each:

    S = X Y^T   forward
    S = X Y^T   recomputed in the backward, to form G
    dX = G Y    backward
    dY = G^T X  backward

S is used in place of G: soft-max, masks and sums are what a loss adds to the floor. If the matrix is symmetric (Y is
X), the tiles below the diagonal are redundant: the half walk takes only those on and above it, and each gives both
dX_i += G X_j and dX_j += G^T X_i. Each product is a torch.mm of one tile into a preallocated buffer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.inputs import SYMMETRIC, Inputs

Step = Callable[[], tuple[Tensor, Tensor]]


def full_walk(loss: str, x: Inputs, tile: int = 512) -> Step:
    """A step to time: the four products over all tiles; returns dX and dY."""
    return _walk(loss, x, tile, half=False)


def half_walk(loss: str, x: Inputs, tile: int = 512) -> Step:
    """A step to time: the four products over a symmetric loss's tiles on and above the diagonal; returns dX twice."""
    assert loss in SYMMETRIC, loss
    return _walk(loss, x, tile, half=True)


def _walk(loss: str, x: Inputs, tile: int, half: bool) -> Step:
    a, b = F.normalize(x.a.detach(), dim=1), F.normalize(x.b.detach(), dim=1)
    left, right = (torch.cat([a, b]),) * 2 if loss in SYMMETRIC else (a, b)
    d_left = torch.empty_like(left)
    d_right = d_left if half else torch.empty_like(right)
    square = torch.empty(tile, tile)
    x_tiles, y_tiles = left.split(tile), right.split(tile)
    dx_tiles, dy_tiles = d_left.split(tile), d_right.split(tile)
    pairs = [(i, j) for i in range(len(x_tiles)) for j in range(len(y_tiles)) if j >= i or not half]
    outs = {(i, j): square[: len(x_tiles[i]), : len(y_tiles[j])] for i, j in pairs}

    def step() -> tuple[Tensor, Tensor]:
        for i, j in pairs:
            torch.mm(x_tiles[i], y_tiles[j].T, out=outs[i, j])
        d_left.zero_()
        d_right.zero_()
        for i, j in pairs:
            torch.mm(x_tiles[i], y_tiles[j].T, out=outs[i, j])
            dx_tiles[i].addmm_(outs[i, j], y_tiles[j])
            if i != j or not half:
                dy_tiles[j].addmm_(outs[i, j].T, x_tiles[i])
        return d_left, d_right

    return step
