"""How a pretrained model's own library crops and scales whole pictures in evaluation."""

from __future__ import annotations

from typing import Any, NamedTuple

from multicl.modalities.image.libraries import library_of
from multicl.types import InputError


class Reading(NamedTuple):
    """How whole pictures are cropped and scaled, as `Image`'s settings of these names; None: not known."""

    crop_pct: float | None = None
    interpolation: str | None = None
    crop_mode: str | None = None


def own_reading(name: str, shape: tuple[int, int]) -> Reading:
    """How the library of a named encoder evaluates its weights.

    Nothing is known of models without weights, nor of those that cannot be loaded: building the encoder says why.

    Args:
        name: `encoder` of `Image`, but not "small". shape: h and w of the pictures.
    """
    library = library_of(name)
    if library == "timm":
        return _timm(name.removeprefix("timm/"), shape)
    return _transformers(name) if library == "transformers" else _torchvision(name)


def _timm(name: str, shape: tuple[int, int]) -> Reading:
    try:
        from timm.models import get_pretrained_cfg

        config = get_pretrained_cfg(name)
    except (ImportError, RuntimeError):
        return Reading()
    if config is None:
        return Reading()
    tested = config.test_input_size is not None and tuple(config.test_input_size[1:]) == shape
    share = (config.test_crop_pct if tested else None) or config.crop_pct
    return Reading(share, config.interpolation, config.crop_mode)


def _torchvision(name: str) -> Reading:
    from torchvision import models

    if name not in models.list_models(module=models):
        return Reading()
    own = models.get_model_weights(name).DEFAULT.transforms()
    return Reading(min(1.0, own.crop_size[0] / own.resize_size[0]), own.interpolation.value)


def _transformers(name: str) -> Reading:
    from multicl.modalities.image.huggingface import reading

    try:
        own: dict[str, Any] = reading(name)
    except InputError:  # no such model, or it reads pictures of any size
        return Reading()
    own.pop("size", None)
    return Reading(**own)
