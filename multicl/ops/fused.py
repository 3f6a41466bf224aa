"""The fused form: Triton kernels compute, relate and sum logits without writing them to memory. For NVIDIA's GPUs.

Most tiles hold only negatives and need no mask; `kernels.mark` finds the others, which are walked in smaller tiles.

Forward: one product. In the narrow mode, sums of rows and of columns are both added atomically, and half of a symmetric
matrix is walked. Atomics add in any order, so the last bits vary from run to run. In the wide mode, where each row and
each column has a shift of its own, and under `torch.use_deterministic_algorithms`, a second launch with the roles
swapped walks the columns, and a symmetric matrix is walked whole: twice the products.

Backward: a kernel recomputes a panel's logits and writes their slopes, dL/dlogit; two library products do the rest.

Forward and backward take at least 8 * N * K * D operations, in bf16 where it is allowed. An H200 reaches 59 % of that
floor at 32,768 x 512 and 65 % at 131,072 (benchmarks/loss_gpu.py). Small batches are bound by launch overhead.

Dimensions: N rows of a side; n queries and k keys of a block; T tilts; D width; S spans of columns.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from multicl.ops import blocks, tiled
from multicl.ops.blocks import Block, Tile
from multicl.ops.finish import RunningOnGpu, two
from multicl.ops.launch import on, runs_on
from multicl.ops.relation import Side, part
from multicl.ops.running import Running, Slopes

PROGRAMS = 1024
"""Programs that keep a GPU busy: where there are fewer row blocks, columns are cut into spans."""


class Form(Protocol):
    """How a block is walked, forward and backward; the module `multicl.ops.tiled` is one."""

    @property
    def running(self) -> type[Running]:
        """The class that keeps the statistics."""

    def reads(self, kind: torch.dtype) -> bool:
        """Whether rows of this dtype are read as they are, without a cast to float32."""

    def queries(self, z: Tensor, scale: Tensor) -> Tensor:
        """[n, D] rows times the scale, as blocks hold them."""

    def keys(self, z: Tensor) -> Tensor:
        """[k, D] rows as blocks hold them."""

    def forward(self, block: Block, running: Running) -> None:
        """Add a block's logits to the statistics."""

    def backward(self, block: Block, slopes: Slopes, wants_y: bool = True) -> tuple[Tensor, Tensor]:
        """Slopes of the statistics -> gradients of the block's queries and keys."""


def form(device: torch.device, kind: torch.dtype, tilts: Sequence[float], low: bool) -> Form:
    """The fused form where it can run (compute capability 8.0, Triton, float32, 1 or 2 tilts above 0), else `tiled`.

    Args:
        low: allow bf16 products, else they are float32.
    """
    if kind != torch.float32 or len(tilts) > 2 or min(tilts) == 0 or not runs_on(device):
        return tiled
    return Fused(torch.bfloat16 if low else torch.float32)


class Sizes(NamedTuple):
    """A kernel's tile, and the warps and stages that work on it."""

    BM: int
    BN: int
    BD: int
    num_warps: int
    num_stages: int


class Plan(NamedTuple):
    """How the work is cut into tiles."""

    sums: Sizes
    """Plain tiles of `kernels.sums`."""
    weights: Sizes
    """Plain tiles of `kernels.weights`."""
    special: Sizes
    """Special tiles of both kernels."""
    mark: tuple[int, int]
    """Rows and columns that are plain or special as a whole: multiples of the tiles'."""


def plan(products: torch.dtype, roomy: bool) -> Plan:
    """Plain tiles are the fastest ones on an H100; special tiles, and those of smaller GPUs, have not been timed.

    Args:
        roomy: a tile may take 160 KB of shared memory; else it stays within 100 KB.
    """
    if products == torch.float32:
        same = Sizes(64, 128, 32, 4, 3)
        return Plan(same, same, Sizes(64, 64, 32, 4, 2), same[:2])
    wide = Sizes(256, 128, 64, 8, 3) if roomy else Sizes(128, 128, 64, 8, 2)
    return Plan(wide, Sizes(128, 128, 64, 8, 3 if roomy else 2), Sizes(64, 64, 64, 4, 2), wide[:2])


@functools.cache
def _is_roomy(device: torch.device) -> bool:
    """Whether a program may take 160 KB of shared memory, as on an A100 and later GPUs for data centres."""
    if device.type != "cuda":
        return True
    room: int = getattr(torch.cuda.get_device_properties(device), "shared_memory_per_block_optin", 0)
    return room >= 160 * 2**10


@dataclass(frozen=True)
class Fused:
    """Walks blocks of float32 on a GPU (or on a CPU, in Triton's interpreter)."""

    products: torch.dtype
    """Dtype of the products: bfloat16, or float32 (in the kernels three TF32 products each, exact to about 2^-21).
    Sums are always float32."""

    running = RunningOnGpu

    def reads(self, kind: torch.dtype) -> bool:
        """Whether it is the dtype of the products."""
        return kind == self.products

    def queries(self, z: Tensor, scale: Tensor) -> Tensor:
        """[n, D] rows times the scale, rounded once, from float32; backward uses the same ones."""
        return torch.mul(z, scale, out=z.new_empty(z.shape, dtype=self.products))

    def keys(self, z: Tensor) -> Tensor:
        """[k, D] rows, also rounded once."""
        return z.to(self.products).contiguous()

    def forward(self, block: Block, running: Running) -> None:
        """As `tiled.forward`."""
        if not (len(block.x) and len(block.y)):
            return
        atomic = running.shift is None and not torch.are_deterministic_algorithms_enabled()
        x, y = block.x, block.y
        columns = block.columns if atomic else None
        own = "counts" if not block.symmetric else "half" if columns is not None else "left out"
        with on(x.device):
            block.marks = self._mark(block.query, block.key, own, block.own_row)
            self._add_rows(block, running, x, y, block.query, block.key, block.marks, own, block.rows, columns, atomic)
            if block.columns is not None and not atomic and not block.symmetric:
                marks = self._mark(block.key, block.query, own, block.own_row)
                self._add_rows(block, running, y, x, block.key, block.query, marks, own, block.columns, None, atomic)

    def _add_rows(
        self, block: Block, running: Running, x: Tensor, y: Tensor, query: Side, key: Side, marks: Tensor, own: str,
        row: int, column: int | None, atomic: bool,
    ) -> None:  # fmt: skip
        """Add the sums of x's rows to the statistics from `row` on, and of y's, unless None, from `column` on."""
        from multicl.ops import kernels

        n, k, tilts, cut, sums = len(x), len(y), len(running.tilts), self._plan(x.device), running.sums
        grids = [_spans(n, k, sizes.BM, cut.mark[1]) for sizes in (cut.sums, cut.special)]
        if atomic:  # the kernels add to the statistics, in any order
            places, out, shifts = (row, row), sums, sums
        else:
            places = (0, grids[0][1])
            out = sums.new_empty(sum(spans for _, spans, _ in grids), 2 * tilts + 2, n)
            shifts = out if running.shift is None else out.new_empty(len(out), n)
        for special, at, (down, spans, span) in zip((False, True), places, grids, strict=True):
            kernels.sums[down, spans](
                x, y, query.row, query.id, key.row, key.id, marks, out, shifts,
                n, k, marks.shape[1], sums.shape[1], span, at, column or 0, *two(running.tilts),
                SPECIAL=special, WIDE=running.shift is not None, ADD=atomic, COLUMNS=column is not None,
                INSIDE=running.positives_in_sum, SELF=own, MM=cut.mark[0], MN=cut.mark[1],
                **self._settings(block, tilts, cut.special if special else cut.sums),
            )  # fmt: skip
        if not atomic:
            _merge(running, out, shifts, slice(row, row + n))

    def _mark(self, query: Side, key: Side, own: str, own_row: str) -> Tensor:
        """[row tiles, column tiles] int8: 1 where a tile holds more than negatives."""
        from multicl.ops import kernels

        (MM, MN), n, k = self._plan(query.id.device).mark, len(query.id), len(key.id)
        marks = query.id.new_empty(-(-n // MM), -(-k // MN), dtype=torch.int8)
        kernels.mark[marks.shape[1], marks.shape[0]](
            query.row, query.id, key.row, key.id, marks, n, k, SELF=own, OWN=own_row, MM=MM, MN=MN
        )
        return marks

    def backward(self, block: Block, slopes: Slopes, wants_y: bool = True) -> tuple[Tensor, Tensor]:
        """As `tiled.backward`."""
        most = blocks.tile_size(block.x.device)
        tiles = list(block.tiles(most))
        add = len(tiles) > 1  # else the only product overwrites what is there
        make = torch.zeros_like if add or not tiles else torch.empty_like
        dx = make(block.x, dtype=torch.float32)
        dy = dx if block.symmetric else make(block.y, dtype=torch.float32)
        if not tiles:
            return dx, dy
        x, y = block.x, block.y
        left = y if block.symmetric else x
        marks = block.marks
        assert marks is not None, "forward comes first"
        stride = -(-min(most, len(y)) // 16) * 16  # so that rows are aligned for the products
        held = x.new_empty(min(most, len(x)), stride)
        for tile in tiles:
            panel = held[: tile.rows.stop - tile.rows.start, : tile.columns.stop - tile.columns.start]
            with on(x.device):
                self._write_weights(block, tile, x, y, marks, slopes, panel)
            _add_product(part(dx, tile.rows), panel, part(y, tile.columns), add)
            if wants_y and not tile.diagonal:
                _add_product(part(dy, tile.columns), panel.T, part(left, tile.rows), add)
        return dx, dy

    def _write_weights(
        self, block: Block, tile: Tile, x: Tensor, y: Tensor, marks: Tensor, slopes: Slopes, panel: Tensor
    ) -> None:
        """Write dL/dlogit of a tile to `panel`."""
        from multicl.ops import kernels

        (n, k), cut = panel.shape, self._plan(x.device)
        query, key = block.query[tile.rows], block.key[tile.columns]
        rows, *columns = (end.at.start for end in block.ends(tile))
        sums, lse, positive, only, single = _tensors(slopes)
        if tile.rows.start or tile.columns.start:
            marks = marks[tile.rows.start // cut.mark[0] :, tile.columns.start // cut.mark[1] :]
        for special, sizes in ((False, cut.weights), (True, cut.special)):
            span = 8 * cut.mark[1] if special else sizes.BN  # most programs of special tiles find none and exit
            kernels.weights[-(-k // span), -(-n // sizes.BM)](
                part(x, tile.rows), part(y, tile.columns), query.row, query.id, key.row, key.id, marks, panel,
                sums, sums if lse is None else lse, positive, positive if only is None else only, single,
                n, k, marks.stride(0), panel.stride(0), len(slopes.positive), rows,
                columns[0] if columns else 0, *two(slopes.tilts),
                SPECIAL=special, WIDE=lse is not None, COLUMNS=bool(columns), INSIDE=only is not None,
                SELF="left out" if tile.diagonal else "counts", SPAN=span, MM=cut.mark[0], MN=cut.mark[1],
                **self._settings(block, len(slopes.tilts), sizes),
            )  # fmt: skip

    def _plan(self, device: torch.device) -> Plan:
        return plan(self.products, _is_roomy(device))

    def _settings(self, block: Block, tilts: int, sizes: Sizes) -> dict[str, Any]:
        """The compile-time settings of both kernels."""
        found = {"WIDTH": block.x.shape[1], "TILTS": tilts, "PRECISION": "tf32x3"}
        return found | {"EQUAL": block.equal_ids, "OWN": block.own_row} | sizes._asdict()


def _spans(n: int, k: int, rows: int, columns: int) -> tuple[int, int, int]:
    """(row blocks, spans, columns of a span): some PROGRAMS row blocks times spans, or fewer where spans are tiles."""
    blocks = -(-n // rows)
    span = -(-k // (columns * max(1, PROGRAMS // blocks))) * columns
    return blocks, -(-k // span), span


def _merge(running: Running, parts: Tensor, shifts: Tensor, at: slice) -> None:
    """Add spans' sums [S, 2T + 2, n], in the wide mode relative to shifts [S, n], to the statistics of rows `at`."""
    if running.shift is not None:
        tilts = len(running.tilts)
        running.raise_to(shifts.amax(0), at)
        below = shifts - running.shift[at]
        factor = torch.stack([(tilt * below).exp_() for tilt in running.tilts], 1)  # [S, T, n]
        parts[:, :tilts].mul_(factor)
        parts[:, tilts : 2 * tilts].mul_(factor)
    running.sums[:, at].add_(parts.sum(0))


def _add_product(total: Tensor, a: Tensor, b: Tensor, add: bool) -> None:
    """total += a @ b, or total = a @ b unless `add`; summed in float32, even for bf16."""
    if a.is_cuda and a.dtype != total.dtype:
        torch.addmm(total, a, b, beta=int(add), out_dtype=total.dtype, out=total)
    else:  # float32; or Triton's interpreter on a CPU, where products are cast
        torch.addmm(total, a.to(total.dtype), b.to(total.dtype), beta=int(add), out=total)


def _tensors(slopes: Slopes) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor]:
    return slopes.sums, slopes.lse, slopes.positive, slopes.only, slopes.single
