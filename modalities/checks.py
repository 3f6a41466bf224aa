"""What every adapter asks of its settings."""

from __future__ import annotations

from typing import Any

from multicl.types import InputError


def tuned(settings: Any) -> bool:
    """Whether weights of a library or the hub train as a whole: neither fresh ones nor LoRA's updates alone."""
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
    """Check the settings that all adapters have. InputError as `require`; `wanted`: what the encoder may be."""
    named = bool(encoder) if isinstance(encoder, str) else callable(encoder)
    require(modality, named, "encoder", encoder, f"{wanted}, or an nn.Module")
    require(modality, isinstance(lora, int) and lora >= 0, "lora", lora, "a whole number, 0 or more")


def not_saved(modality: str, encoder: object) -> InputError:
    """Why a model with a module of the user's own cannot be loaded from its folder alone."""
    return InputError(
        f"the {modality} encoder is a module of your own ({type(encoder).__name__}), whose code is not saved: give it "
        f"again when loading: modalities={{...: {modality.capitalize()}(my_module)}}"
    )
