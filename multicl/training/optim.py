"""Optimiser, parameter groups, learning-rate schedule and gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from multicl.choices import check_settings
from multicl.graph import tower_of
from multicl.narrow import refuse_narrow
from multicl.towers import Towers
from multicl.training.lars import LARS
from multicl.types import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator


HIGH = 3e-4
"""Above this AdamW rate, pretrained weights get a warning: MiniLM got worse in 24 steps at 1e-3 on 1,200 pairs."""


@dataclass(frozen=True, kw_only=True)
class Optim:
    """How parameters are updated."""

    name: Literal["adamw", "sgd", "lars"] = "adamw"
    """"lars": SimCLR's for batches of thousands, with a learning rate of 0.3 B / 256 (arXiv:2002.05709, section 2)."""
    weight_decay: float = 1e-4
    """Not applied to biases, norms and temperatures."""
    momentum: float = 0.9
    """SGD's and LARS's momentum, AdamW's first beta."""
    beta2: float = 0.98
    """AdamW's second beta."""
    warmup: float = 0.05
    """Steps in which the learning rate rises linearly from 0: below 1, a fraction of all steps; else their number."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """The rate after warmup: down to 0 along half a cosine, or along a line (transformers' default), or constant."""
    clip: float | None = 1.0
    """Gradients of a larger norm are scaled down to this norm; None: no clipping."""
    tower_lr: dict[str, float] = field(default_factory=dict)
    """Tower, or a node that uses it -> factor of the learning rate for its encoder; 0 freezes it."""

    def __post_init__(self) -> None:
        check_settings(self, "optim.")
        if not (0 <= self.weight_decay < math.inf and 0 <= self.warmup < math.inf):
            raise InputError(
                f"optim.weight_decay and optim.warmup must be 0 or more, got {self.weight_decay} and {self.warmup}"
            )
        for name in ("momentum", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"optim.{name} must be in [0, 1), got {getattr(self, name)}")
        if self.clip is not None and not self.clip > 0:
            raise InputError(f"optim.clip must be above 0, or none, got {self.clip}")
        for tower, factor in self.tower_lr.items():
            if not 0 <= factor < math.inf:
                raise InputError(f"optim.tower_lr of {tower!r} must be 0 or more, got {factor}")


def build_optimizer(towers: Towers, settings: Optim, lr: float, scaled: bool = False) -> torch.optim.Optimizer:
    """Make the optimiser, with a group for each (rate factor, weight decay or none). Towers of factor 0 are frozen.

    Args:
        lr: base learning rate; a group's is `lr` times the group's `factor`.
        scaled: whether a gradient scaler will step it. A fused optimiser would then skip steps without Accelerate
            noticing, so none is used.

    Raises:
        InputError: `tower_lr` names an unknown tower, or gives one tower two factors; no parameter is left to train; a
            trained parameter has 16 bits.
    """
    factors = _by_tower(towers, settings.tower_lr)
    for tower, factor in factors.items():
        if factor == 0:
            towers.encoders[tower].requires_grad_(False)
    refuse_narrow(towers)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, p in towers.named_parameters():
        if not p.requires_grad:
            continue
        kind, _, rest = name.partition(".")
        factor = factors.get(rest.partition(".")[0], 1.0) if kind == "encoders" else 1.0
        groups.setdefault((factor, p.ndim > 1), []).append(p)
    params: list[dict[str, Any]] = [
        {
            "params": ps,
            "factor": factor,
            "lr": lr * factor,
            "weight_decay": settings.weight_decay if decays else 0.0,
            "adapts": decays,
        }
        for (factor, decays), ps in groups.items()
    ]
    if not params:
        raise InputError("nothing is left to train: every tower is frozen")
    fast: dict[str, Any] = {"fused": True} if towers.device.type == "cuda" and not scaled else {"foreach": True}
    if settings.name == "lars":
        return LARS(params, lr=lr, momentum=settings.momentum)
    if settings.name == "sgd":
        return torch.optim.SGD(params, lr=lr, momentum=settings.momentum, **fast)
    return torch.optim.AdamW(params, lr=lr, betas=(settings.momentum, settings.beta2), **fast)


def too_fast(towers: Towers, settings: Optim, lr: float) -> list[str]:
    """A warning for each pretrained encoder whose AdamW learning rate is likely to ruin its weights."""
    rates = {tower: lr * factor for tower, factor in _by_tower(towers, settings.tower_lr).items()}
    tuned = {towers.towers[node] for node, modality in towers.modalities.items() if getattr(modality, "tuned", False)}
    return [
        f"{tower}: a learning rate of {rate:g} may undo what its pretrained weights know; 1e-4 is usual. "
        f"--optim.tower-lr {tower} 0.05 (in Python Optim(tower_lr={{{tower!r}: 0.05}})) gives it that share of train.lr"
        for tower, encoder in towers.encoders.items()
        if tower in tuned
        and settings.name == "adamw"
        and (rate := rates.get(tower, lr)) > HIGH
        and any(p.requires_grad for p in encoder.parameters())
    ]


def frozen_again(towers: Towers, trained: Iterable[nn.Parameter]) -> str | None:
    """Freeze parameters that require a gradient but are not in `trained`; a message for the user if there are any.

    The optimiser does not have them: their gradients would not be used, and not be reduced over ranks.
    """
    known = set(trained)
    new = [name for name, p in towers.named_parameters() if p.requires_grad and p not in known]
    for name in new:
        towers.get_parameter(name).requires_grad_(False)
    more = f" and {len(new) - 1} more" if len(new) > 1 else ""
    return (
        f"{new[0]}{more}: unfrozen after training began, so not in the optimiser; it is frozen again. To train it, "
        "leave it unfrozen from the first step on, or make a new Trainer after unfreezing it"
        if new
        else None
    )


def _by_tower(towers: Towers, given: Mapping[str, float]) -> dict[str, float]:
    """Factors by tower, from factors by tower or node name; a tower may have been renamed since it was configured."""
    of = {node: tower_of(node, modality) for node, modality in towers.modalities.items()}
    of |= {tower: tower for tower in towers.encoders}
    if unknown := set(given) - set(of):
        raise InputError(f"optim.tower_lr names {sorted(unknown)}, but the towers are {sorted(towers.encoders)}")
    factors: dict[str, float] = {}
    for name, factor in given.items():
        if factors.setdefault(of[name], factor) != factor:
            same = sorted(other for other in given if of[other] == of[name])
            raise InputError(
                f"optim.tower_lr names {same}, which are the same tower, {of[name]!r}: give it a single factor"
            )
    return factors


def warmup_steps(settings: Optim, steps: int) -> float:
    """Number of warmup steps out of `steps`, not rounded."""
    return settings.warmup * steps if settings.warmup < 1 else settings.warmup


def lr_factor(settings: Optim, step: int, steps: int) -> float:
    """Factor of the learning rate, in [0, 1], at 0-based `step` of `steps`: linear warmup, then the schedule."""
    warmup = warmup_steps(settings, steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if settings.schedule == "constant":
        return 1.0
    if step >= steps:
        return 0.0
    if settings.schedule == "linear":
        return (steps - step) / (steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set every group's learning rate to `lr` times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["factor"]


def clip(accelerator: Accelerator, trained: Sequence[nn.Parameter], settings: Optim, wanted: bool) -> Tensor | None:
    """Clip gradients, if set, and return their norm before clipping; None if neither `clip` nor `wanted` needs it."""
    if settings.clip is None and not wanted:
        return None
    accelerator.unscale_gradients()
    if settings.clip is not None:
        return torch.nn.utils.clip_grad_norm_(trained, settings.clip)
    return torch.nn.utils.get_total_norm(p.grad for p in trained if p.grad is not None)
