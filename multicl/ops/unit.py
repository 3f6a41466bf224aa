"""unit: rows scaled to length one; those too short to have a direction become zero."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from multicl.ops.launch import on, runs_on
from multicl.ops.uncompiled import uncompiled

SHORTEST = 1e-6
"""Norm below which a row has no direction."""
WIDEST = 8192
"""Width of a row, at most, for a kernel that holds rows whole."""


@uncompiled
def unit(z: Tensor) -> Tensor:
    """[N, D] -> unit rows in float32 or better; a row of norm below 1e-6 becomes zero, with zero gradient."""
    u: Tensor = _Unit.apply(z)[0]  # type: ignore[no-untyped-call]
    return u


def unit_rows(z: Tensor) -> tuple[Tensor, Tensor]:
    """`unit` for a Function's forward: unit rows [N, D] and inverse norms [N, 1], 0 for a row without a direction."""
    kind = torch.promote_types(z.dtype, torch.float32)
    if _by_kernel(z, kind):
        return _kernel(z)
    x = z.to(kind)
    inverse = torch.threshold(torch.linalg.vector_norm(x, dim=1, keepdim=True), SHORTEST, torch.inf).reciprocal_()
    return x * inverse, inverse


def unit_slopes(of_u: Tensor, u: Tensor, inverse: Tensor, kind: torch.dtype) -> Tensor:
    """The gradient of z, of dtype `kind`, from that of u and what `unit_rows` gave: for a Function's backward."""
    if _by_kernel(u, of_u.dtype):
        return _kernel_back(of_u.contiguous(), u, inverse, kind)
    along = (of_u * u).sum(1, keepdim=True)
    return torch.addcmul(of_u, along, u, value=-1).mul_(inverse).to(kind)  # in place: rows are what takes memory here


class _Unit(torch.autograd.Function):
    """One pass each way: less than half of the work of `normalize` and a mask.

    It gives the inverse norms [N, 1], too: its gradient is a function of its outputs and can be differentiated again.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> tuple[Tensor, Tensor]:
        u, inverse = unit_rows(z)
        ctx.kind = z.dtype
        ctx.save_for_backward(u, inverse)
        ctx.set_materialize_grads(False)
        return u, inverse

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Tensor:
        (u, inverse), (of_u, of_inverse) = ctx.saved_tensors, grads
        of_u = torch.zeros_like(u) if of_u is None else of_u
        if of_inverse is None and not torch.is_grad_enabled():
            return unit_slopes(of_u, u, inverse, ctx.kind)
        along = (of_u * u).sum(1, keepdim=True)
        if of_inverse is not None:  # only in second derivatives
            along = along + of_inverse * inverse
        grad: Tensor = ((of_u - along * u) * inverse).to(ctx.kind)
        return grad


def _by_kernel(z: Tensor, kind: torch.dtype) -> bool:
    return kind == torch.float32 and runs_on(z.device) and z.numel() > 0 and z.shape[1] <= WIDEST and z.stride(1) == 1


def sizes(width: int) -> dict[str, int]:
    """Compile-time settings of the row kernels: a program has BLOCK rows, about 4,096 numbers."""
    room = 1 << (width - 1).bit_length()
    return {"WIDTH": width, "ROOM": room, "BLOCK": max(1, min(64, 4096 // room))}


def _programs(z: Tensor, settings: dict[str, int]) -> tuple[int]:
    return (-(-len(z) // settings["BLOCK"]),)


def _kernel(z: Tensor) -> tuple[Tensor, Tensor]:
    from multicl.ops import row_kernels

    u, inverse = (
        torch.empty_like(z, dtype=torch.float32, memory_format=torch.contiguous_format),
        z.new_empty(len(z), 1, dtype=torch.float32),
    )
    settings = sizes(z.shape[1])
    with on(z.device):
        row_kernels.unit[_programs(z, settings)](z, u, inverse, len(z), z.stride(0), SHORTEST, **settings)
    return u, inverse


def _kernel_back(of_u: Tensor, u: Tensor, inverse: Tensor, kind: torch.dtype) -> Tensor:
    from multicl.ops import row_kernels

    out = torch.empty_like(u, dtype=kind)
    settings = sizes(u.shape[1])
    with on(u.device):
        row_kernels.unit_slopes[_programs(u, settings)](of_u, u, inverse, out, len(u), **settings)
    return out
