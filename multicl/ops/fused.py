"""The fused form: logits are made, related and summed in Triton kernels, and never leave them. For NVIDIA's GPUs.

Forward: one product. In the narrow mode columns' sums come from it by atomic additions, and of a symmetric matrix half
is walked; since atomics add in any order, the last bits vary from run to run. In the wide mode, where each row and each
column has a shift of its own, and under `torch.use_deterministic_algorithms`, columns are walked in a second launch
with the roles swapped and a symmetric matrix is walked whole: twice the products.

Backward: a kernel makes a panel's logits again and writes their slopes, and two library products take it from there.

The floor of both is 8 * N * K * D operations, of bf16 products where they are allowed. Neither the speed nor the sizes
of tiles have been measured so far, nor have the kernels run on a GPU: they are tested through Triton's interpreter, and
compiled for sm_80 and sm_90.

Dimensions: N rows of a side; n queries and k keys of a block; T tilts; D width; S spans of columns.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from multicl.ops import tiled
from multicl.ops.relation import Side
from multicl.ops.running import Running, Slopes
from multicl.ops.tiled import Block

PROGRAMS = 1024
"""As many as keep a GPU busy: where there are fewer row blocks, columns are cut into spans."""
SWITCH = "MULTICL_TRITON"
"""Environment variable; "1" lets this form run. Off until a GPU has passed the tests: `tiled` runs there, too."""


class Form(Protocol):
    """How a block is walked, there and back; see `multicl.ops.tiled`, which is one."""

    def forward(self, block: Block, running: Running) -> None:
        """Add a block's logits to the statistics."""

    def backward(self, block: Block, slopes: Slopes, wants_y: bool = True) -> tuple[Tensor, Tensor]:
        """Slopes of the statistics -> gradients of the block's queries and keys."""


def form(device: torch.device, kind: torch.dtype, tilts: Sequence[float], low: bool) -> Form:
    """The fused form where asked for and able: compute capability 8.0, Triton, float32, one or two tilts above 0.

    Else `tiled`.

    Args:
        low: bf16 products will do. Else they are those of float32.
    """
    if (
        os.environ.get(SWITCH) != "1"
        or device.type != "cuda"
        or kind != torch.float32
        or len(tilts) > 2
        or min(tilts) == 0
        or not _runs_on(device)
    ):
        return tiled
    return Fused(torch.bfloat16 if low else torch.float32)


@functools.cache
def _runs_on(device: torch.device) -> bool:
    if torch.version.cuda is None or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


class Sizes(NamedTuple):
    """Of a kernel's tile, and of what works on it."""

    BM: int
    BN: int
    BD: int
    num_warps: int
    num_stages: int


def sizes(products: torch.dtype) -> Sizes:
    """Unmeasured, and such that a tile's shared memory is within 100 KB."""
    return Sizes(64, 64, 32, 4, 2) if products == torch.float32 else Sizes(128, 128, 64, 8, 3)


@dataclass(frozen=True)
class Fused:
    """Walks blocks of float32 on a GPU (or, interpreted, on a CPU)."""

    products: torch.dtype
    """What products are made of: bfloat16, or float32 (three of TF32 each in the kernels, exact to some 2^-21). Sums
    are float32 in any case."""

    def forward(self, block: Block, running: Running) -> None:
        """As `tiled.forward`."""
        if not (len(block.x) and len(block.y)):
            return
        atomic = running.shift is None and not torch.are_deterministic_algorithms_enabled()
        x, y = self._cast(block.x), self._cast(block.y)
        columns = block.columns if atomic else None
        with _on(x.device):
            self._add_rows(block, running, x, y, block.query, block.key, block.rows, columns)
            if block.columns is not None and not atomic and not block.symmetric:
                self._add_rows(block, running, y, x, block.key, block.query, block.columns, None)

    def _add_rows(
        self, block: Block, running: Running, x: Tensor, y: Tensor, query: Side, key: Side, row: int, column: int | None
    ) -> None:
        """Sums of x's rows go to the statistics from `row` on; of y's to those from `column` on."""
        from multicl.ops import kernels

        n, k, tilts, (BM, BN, *_) = len(x), len(y), len(running.tilts), sizes(self.products)
        blocks = -(-n // BM)
        span = -(-k // (BN * max(1, PROGRAMS // blocks))) * BN
        spans = -(-k // span)
        parts = x.new_empty(spans, 2 * tilts + 2, n, dtype=torch.float32)
        shifts = parts if running.shift is None else parts.new_empty(spans, n)
        at = slice(column or 0, None)
        sums_of_columns = (running.others[:, at], running.inside[:, at], running.positive[at], running.count[at])
        kernels.sums[blocks, spans](
            x, y, query.row, query.id, key.row, key.id, parts, shifts, *sums_of_columns,
            n, k, running.others.shape[1], span, *_two(running.tilts),
            WIDE=running.shift is not None, COLUMNS=column is not None, INSIDE=running.positives_in_sum,
            SELF="counts" if not block.symmetric else "half" if column is not None else "left out",
            **self._settings(block, tilts),
        )  # fmt: skip
        _merge(running, parts, shifts, slice(row, row + n))

    def backward(self, block: Block, slopes: Slopes, wants_y: bool = True) -> tuple[Tensor, Tensor]:
        """As `tiled.backward`."""
        dx, dy = torch.zeros_like(block.x), torch.zeros_like(block.y)
        if not (len(block.x) and len(block.y)):
            return dx, dy
        x, y = self._cast(block.x), self._cast(block.y)
        left = y if block.symmetric else x
        most = tiled.tile_size(x.device)
        stride = -(-min(most, len(y)) // 16) * 16  # so that rows are aligned for the products
        held = x.new_empty(min(most, len(x)), stride)
        whole = Slopes(slopes.tilts, *(None if z is None else z.contiguous() for z in _tensors(slopes)))  # type: ignore[arg-type]
        for tile in block.tiles():
            panel = held[: tile.rows.stop - tile.rows.start, : tile.columns.stop - tile.columns.start]
            with _on(x.device):
                self._write_weights(block, tile, x, y, whole, panel)
            _add_product(dx[tile.rows], panel, y[tile.columns])
            if wants_y and not tile.diagonal:
                _add_product(dy[tile.columns], panel.T, left[tile.rows])
        return dx, dy

    def _write_weights(
        self, block: Block, tile: tiled.Tile, x: Tensor, y: Tensor, slopes: Slopes, panel: Tensor
    ) -> None:
        """dL/dlogit of a tile."""
        from multicl.ops import kernels

        (n, k), (BM, BN, *_) = panel.shape, sizes(self.products)
        query, key = block.query[tile.rows], block.key[tile.columns]
        rows, *columns = (end.at.start for end in block.ends(tile))
        sums, lse, positive, only, single = _tensors(slopes)
        kernels.weights[-(-k // BN), -(-n // BM)](
            x[tile.rows], y[tile.columns], query.row, query.id, key.row, key.id, panel,
            sums, sums if lse is None else lse, positive, positive if only is None else only, single,
            n, k, panel.stride(0), len(slopes.positive), rows, columns[0] if columns else 0,
            *_two(slopes.tilts),
            WIDE=lse is not None, COLUMNS=bool(columns), INSIDE=only is not None,
            SELF="left out" if tile.diagonal else "counts",
            **self._settings(block, len(slopes.tilts)),
        )  # fmt: skip

    def _cast(self, z: Tensor) -> Tensor:
        return z.to(self.products).contiguous()

    def _settings(self, block: Block, tilts: int) -> dict[str, Any]:
        """What both kernels are compiled for."""
        found = {"WIDTH": block.x.shape[1], "TILTS": tilts, "PRECISION": "tf32x3"}
        return found | {"EQUAL": block.equal_ids, "OWN": block.own_row} | sizes(self.products)._asdict()


def _merge(running: Running, parts: Tensor, shifts: Tensor, at: slice) -> None:
    """Spans' sums [S, 2T + 2, n], over the shifts [S, n] where rows are wide, go to the rows `at`."""
    tilts = len(running.tilts)
    others, inside, own = parts.split([tilts, tilts, 2], 1)
    if running.shift is not None:
        running.raise_to(shifts.amax(0), at)
        below = shifts - running.shift[at]
        factor = torch.stack([(tilt * below).exp_() for tilt in running.tilts], 1)  # [S, T, n]
        others, inside = others * factor, inside * factor
    running.others[:, at] += others.sum(0)
    running.inside[:, at] += inside.sum(0)
    positive, count = own.sum(0)
    running.positive[at] += positive
    running.count[at] += count


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b; summed in float32, also of bf16."""
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    elif a.is_cuda:
        total += torch.mm(a, b, total.dtype)
    else:  # interpreted
        total.addmm_(a.to(total.dtype), b.to(total.dtype))


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Kernels are launched on the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _two(tilts: tuple[float, ...]) -> tuple[float, float]:
    return float(tilts[0]), float(tilts[-1])


def _tensors(slopes: Slopes) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor]:
    return slopes.sums, slopes.lse, slopes.positive, slopes.only, slopes.single
