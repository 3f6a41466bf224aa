"""The contrast op through its Triton kernels, interpreted on a CPU: for processes that have TRITON_INTERPRET=1."""

from __future__ import annotations

from typing import Any

import torch
from contrasts import CASES, compute, inputs

from multicl.distributed import World
from multicl.ops import blocks, fused
from multicl.ops.contrast import contrast


def of_interpreter(
    numbers: list[int], counts_a: list[int], counts_b: list[int], width: int, ids: int, products: torch.dtype,
    deterministic: bool,
) -> list[dict[str, Any]]:  # fmt: skip
    """The cases of these numbers on this rank's rows, as lists: tiles of 16, two to a panel, and few programs."""
    import triton

    assert triton.knobs.runtime.interpret, "TRITON_INTERPRET=1 comes before the first import of triton"
    blocks.tile_size = lambda device: 32
    small, smaller = fused.Sizes(16, 16, 16, 4, 2), fused.Sizes(8, 8, 16, 4, 2)
    fused.plan = lambda products, roomy: fused.Plan(small, small, smaller, (16, 16))
    fused.PROGRAMS = 4
    fused.form = lambda device, kind, tilts, low: fused.Fused(products)
    torch.use_deterministic_algorithms(deterministic)
    rank = World.current().rank
    at_a, at_b = (slice(sum(n[:rank]), sum(n[: rank + 1])) for n in (counts_a, counts_b))
    found = []
    for number in numbers:
        given = single(inputs(CASES[number], sum(counts_a), sum(counts_b), width, ids, number))
        found.append({n: v.tolist() for n, v in compute(contrast, CASES[number], given, at_a, at_b).items()})
    return found


def single(given: dict[str, torch.Tensor], device: str = "cpu") -> dict[str, torch.Tensor]:
    """Inputs in float32."""
    return {name: z.to(device, torch.float32) if z.is_floating_point() else z.to(device) for name, z in given.items()}
