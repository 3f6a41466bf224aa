"""Gradients that raise an error if they are differentiated again: as constants, they would be silently wrong."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def once(grads: tuple[Tensor | None, ...], inputs: Tensor, what: str) -> tuple[Tensor | None, ...]:
    """The gradients, for a Function's backward to return; differentiating them again raises RuntimeError.

    Args:
        inputs: any input of the Function that wants a gradient. what: the way out, for the message.
    """
    if not torch.is_grad_enabled():
        return grads
    return tuple(None if grad is None else _Refusing.apply(grad, inputs, what) for grad in grads)  # type: ignore[no-untyped-call]


class _Refusing(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, inputs: Tensor, what: str) -> Tensor:
        ctx.what = what
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, None]:
        raise RuntimeError(f"this gradient cannot be differentiated again: {ctx.what}")
