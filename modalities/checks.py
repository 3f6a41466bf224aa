"""Checks of settings that all adapters share."""

from __future__ import annotations

from typing import Any

from multicl.types import InputError


def tuned(settings: Any) -> bool:
    """Whether pretrained weights are fine-tuned in full: not trained from scratch, nor through LoRA alone."""
    named = isinstance(settings.encoder, str) and settings.encoder not in ("small", "words")
    return bool(named and settings.pretrained and not settings.lora)


def require(modality: str, holds: bool, name: str, value: object, wanted: str) -> None:
    """Check one setting.

    Raises:
        InputError: it does not hold; the message names the setting, its value and what it must be.
    """
    if not holds:
        raise InputError(f"{modality} setting {name}={value!r}: it must be {wanted}")


def check_common(modality: str, encoder: object, lora: object, wanted: str) -> None:
    """Check the settings that all adapters have; InputError as from `require`. `wanted`: what the encoder may be."""
    named = bool(encoder) if isinstance(encoder, str) else callable(encoder)
    require(modality, named, "encoder", encoder, f"{wanted}, or an nn.Module")
    require(modality, isinstance(lora, int) and lora >= 0, "lora", lora, "a whole number, 0 or more")


def not_saved(modality: str, encoder: object) -> InputError:
    """The error of loading a model from its folder alone if its encoder is a module of the user's own."""
    return InputError(
        f"the {modality} encoder is a module of your own ({type(encoder).__name__}), whose code is not saved: give it "
        f"again when loading: modalities={{...: {modality.capitalize()}(my_module)}}"
    )
