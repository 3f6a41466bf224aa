"""The contrast op through its Triton kernels, interpreted on a CPU: for processes that have TRITON_INTERPRET=1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from contrasts import CASES, compute, inputs
from interpreted import interpret

from multicl.distributed import World
from multicl.ops import blocks, fused
from multicl.ops.contrast import contrast


class Run(NamedTuple):
    """Cases, with each rank's numbers of rows, and the precision of products."""

    numbers: Sequence[int]
    counts_a: list[int]
    counts_b: list[int]
    width: int
    ids: int
    products: torch.dtype
    deterministic: bool


def of_interpreter(runs: Sequence[Run]) -> list[list[dict[str, Any]]]:
    """Each run's cases on this rank's rows, as lists: tiles of 16, two to a panel, and few programs."""
    interpret()
    blocks.tile_size = lambda device: 32
    small, smaller = fused.Sizes(16, 16, 16, 4, 2), fused.Sizes(8, 8, 16, 4, 2)
    fused.plan = lambda products, roomy: fused.Plan(small, small, smaller, (16, 16))
    fused.PROGRAMS = 4
    return [_one(run) for run in runs]


def _one(run: Run) -> list[dict[str, Any]]:
    fused.form = lambda device, kind, tilts, low: fused.Fused(run.products)
    torch.use_deterministic_algorithms(run.deterministic)
    rank = World.current().rank
    at_a, at_b = (slice(sum(n[:rank]), sum(n[: rank + 1])) for n in (run.counts_a, run.counts_b))
    found = []
    for number in run.numbers:
        given = single(inputs(CASES[number], sum(run.counts_a), sum(run.counts_b), run.width, run.ids, number))
        found.append({n: v.tolist() for n, v in compute(contrast, CASES[number], given, at_a, at_b).items()})
    return found


def single(given: dict[str, torch.Tensor], device: str = "cpu") -> dict[str, torch.Tensor]:
    """Inputs in float32."""
    return {name: z.to(device, torch.float32) if z.is_floating_point() else z.to(device) for name, z in given.items()}
