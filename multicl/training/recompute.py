"""Gradient checkpointing (arXiv:1604.06174): of each layer an encoder keeps the input, and computes the rest again.

An encoder that can has a method `set_grad_checkpointing`, by timm's name for it; so may a module of the user's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

from multicl.towers import Towers
from multicl.types import InputError


def recompute_layers(towers: Towers, tell: Callable[[str], None]) -> None:
    """Turn it on in every encoder that can, for training; `tell` which ones cannot, and keep all.

    Raises:
        InputError: none of them can; or one has a spectral norm, whose vectors move with every pass, and from which
            layers computed again would get another gradient.
    """
    unable = [tower for tower, encoder in towers.encoders.items() if not any(map(_turned_on, encoder.modules()))]
    if len(unable) == len(towers.encoders):
        raise InputError(
            f"train.gradient_checkpointing: no encoder of {unable} can compute its layers again; most models of "
            "transformers and timm can. --train.chunk-size saves memory with any encoder"
        )
    for tower, encoder in towers.encoders.items():
        if tower not in unable and any(map(_spectral, encoder.modules())):
            raise InputError(
                f"train.gradient_checkpointing: the encoder of {tower!r} has a spectral norm, which would move when "
                "its layers are computed again: leave it off. --train.chunk-size saves memory with any encoder"
            )
    towers.recomputes = True
    if unable:
        tell(f"no gradient checkpointing in {', '.join(unable)}: the encoder has no layers that it can compute again")


def _turned_on(part: Any) -> bool:
    """In a part of an encoder."""
    if not hasattr(part, "set_grad_checkpointing"):
        return False
    try:
        part.set_grad_checkpointing(True)
    except (ValueError, AssertionError):  # transformers' and timm's way to say that this architecture cannot
        return False
    return True


def _spectral(part: Any) -> bool:
    """By torch's parametrisation, or by its older hook."""
    hooks = part._forward_pre_hooks.values()
    return isinstance(part, _SpectralNorm) or any(isinstance(hook, SpectralNorm) for hook in hooks)
