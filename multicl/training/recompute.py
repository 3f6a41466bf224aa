"""Gradient checkpointing (arXiv:1604.06174): an encoder keeps only each layer's input and recomputes the rest.

An encoder that supports it has a method `set_grad_checkpointing`, as in timm; a user's own module may have one too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

from multicl.towers import Towers
from multicl.types import InputError


def recompute_layers(towers: Towers, tell: Callable[[str], None]) -> None:
    """Turn on gradient checkpointing in every encoder that supports it; `tell` the user which ones do not.

    Raises:
        InputError: no encoder supports it; or one has a spectral norm, whose vectors change with every forward pass, so
            that recomputed layers would get a different gradient.
    """
    unable = [tower for tower, encoder in towers.encoders.items() if not any(map(_turned_on, encoder.modules()))]
    if len(unable) == len(towers.encoders):
        raise InputError(
            f"train.gradient_checkpointing: no encoder of {unable} can recompute its layers (most models of "
            "transformers and timm can); --train.chunk-size saves memory with any encoder"
        )
    for tower, encoder in towers.encoders.items():
        if tower not in unable and any(map(_spectral, encoder.modules())):
            raise InputError(
                f"train.gradient_checkpointing: the encoder of {tower!r} has a spectral norm, which would change "
                "when its layers are recomputed: leave it off. --train.chunk-size saves memory with any encoder"
            )
    towers.recomputes = True
    if unable:
        tell(f"no gradient checkpointing in {', '.join(unable)}: the encoder cannot recompute its layers")


def _turned_on(part: Any) -> bool:
    """Turn it on in a part of an encoder; returns whether that worked."""
    if not hasattr(part, "set_grad_checkpointing"):
        return False
    try:
        part.set_grad_checkpointing(True)
    except (ValueError, AssertionError):  # raised by transformers and timm if the architecture does not support it
        return False
    return True


def _spectral(part: Any) -> bool:
    """Whether it has a spectral norm, as torch's parametrisation or as its older hook."""
    hooks = part._forward_pre_hooks.values()
    return isinstance(part, _SpectralNorm) or any(isinstance(hook, SpectralNorm) for hook in hooks)
