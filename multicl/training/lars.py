"""LARS (arXiv:1708.03888): SGD whose rate follows each layer's own size; SimCLR's choice for batches of thousands."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor


class LARS(torch.optim.Optimizer):
    """Momentum over gradients that are scaled to their layer, as in section 4 and in SimCLR's code.

        g = trust |w| / (|dL/dw| + decay |w|) (dL/dw + decay w),    v = momentum v + g,    w = w - lr v

    Groups with `adapts` False (biases, norms and temperatures) have g = dL/dw + decay w. So has a layer whose weights
    or gradient are all zero.

    Args:
        params: groups, each with its `weight_decay`, `lr` and `adapts`; default True. trust: 0.001 in SimCLR.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]] | Iterable[Tensor],
        lr: float = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
        adapts: bool = True,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "adapts": adapts}
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            if weights:
                self._move(weights, group)
        return loss

    def _move(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        decay, given = group["weight_decay"], [p.grad for p in weights if p.grad is not None]
        grads = list(torch._foreach_add(given, weights, alpha=decay))
        if group["adapts"]:
            sizes, slopes = torch._foreach_norm(weights), torch._foreach_norm(given)
            for grad, size, slope in zip(grads, sizes, slopes, strict=True):
                both = (size > 0) & (slope > 0)  # on the device: nothing is waited for
                grad.mul_(torch.where(both, group["trust"] * size / (slope + decay * size), 1.0))
        for p in weights:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        moving = [self.state[p]["momentum_buffer"] for p in weights]
        torch._foreach_mul_(moving, group["momentum"])
        torch._foreach_add_(moving, grads)
        torch._foreach_add_(weights, moving, alpha=-group["lr"])
