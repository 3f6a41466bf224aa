"""LARS (arXiv:1708.03888): SGD with a learning rate per layer, as SimCLR uses for batches of thousands."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor


class LARS(torch.optim.Optimizer):
    """SGD with momentum over gradients that are rescaled per layer, as in section 4 and in SimCLR's code.

        g = trust |w| / (|dL/dw| + decay |w|) (dL/dw + decay w),    v = momentum v + g,    w = w - lr v

    For groups with `adapts` False (biases, norms and temperatures), and for layers whose weights or gradient are all
    zero, g = dL/dw + decay w.

    Args:
        params: tensors, or groups that may set `weight_decay`, `lr` and `adapts` of their own.
        trust: 0.001 in SimCLR. adapts: whether to rescale; the groups' default.
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
        """Update every parameter that has a gradient; returns the closure's loss, if there is one."""
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
                both = (size > 0) & (slope > 0)  # stays on the device: no synchronisation
                grad.mul_(torch.where(both, group["trust"] * size / (slope + decay * size), 1.0))
        for p in weights:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        moving = [self.state[p]["momentum_buffer"] for p in weights]
        torch._foreach_mul_(moving, group["momentum"])
        torch._foreach_add_(moving, grads)
        torch._foreach_add_(weights, moving, alpha=-group["lr"])
