"""Image models of Hugging Face, by hub name or from a folder."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from multicl.modalities import pretrained
from multicl.modalities.image.color import IMAGENET, Stats
from multicl.modalities.image.named import KINDS
from multicl.types import InputError

WARPED = 384
"""Pixels a side from which ConvNeXt's processor squashes whole pictures instead of cropping them."""


class Pooled(nn.Module):
    """A model of Hugging Face: [B, C, h, w] -> its pooled output [B, W], or the mean over its tokens or positions."""

    model: Any  # of transformers' many classes

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        takes = inspect.signature(model.forward).parameters
        self.options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in takes else {}

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, W]."""
        out = self.model(pixel_values=x, **self.options)
        pooled: Tensor | None = getattr(out, "pooler_output", None)
        if pooled is not None:
            return pooled.flatten(1)
        hidden: Tensor = out.last_hidden_state  # [B, tokens, W], or [B, W, h, w]
        return hidden.mean(1) if hidden.ndim == 3 else hidden.flatten(2).mean(2)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute layers in backward. ValueError: the model does not support it."""
        pretrained.recompute(self.model, enable)


def huggingface_net(name: str, inputs: int, weights: bool) -> tuple[Pooled, Stats]:
    """The model, or the vision half of a two-tower one such as CLIP, and the normalisation of its pictures.

    Args:
        name: "hf/ORG/NAME" or a folder. inputs: channels; unless they are 3, the first layer has random weights.
        weights: load them, from safetensors files only.

    Raises:
        InputError: no such model or folder, weights that are missing or another model's, or it takes no pictures.
    """
    place = _place(name)
    config = load_config(name)
    config = getattr(config, "vision_config", config)
    if hasattr(config, "mask_ratio"):  # a masked autoencoder would leave out patches at random, in evaluation too
        config.mask_ratio = 0.0
    loading: dict[str, Any] = {}
    if inputs != 3:
        if not hasattr(config, "num_channels"):
            raise InputError(f"the encoder {name} takes RGB only; use channels='rgb'")
        config.num_channels = inputs
        loading["ignore_mismatched_sizes"] = True
    try:
        model, absent = pretrained.build(place, config, weights, **loading)
    except (OSError, ValueError) as error:
        raise InputError(f"the encoder {name} cannot be loaded: {pretrained.first_line(error)}") from error
    if "pixel_values" not in inspect.signature(model.forward).parameters:
        raise InputError(f"the encoder {name} is a {type(model).__name__}, which takes no pictures")
    if pretrained.mostly(model, absent):
        raise InputError(f"the weights of the encoder {name} belong to another model than its {type(model).__name__}")
    pretrained.warn_of_absent(name, model, absent)
    return Pooled(model), _stats(place)


def save(name: str, folder: Path) -> None:
    """Write config.json and preprocessor_config.json of a model.

    Raises:
        InputError: no such model or folder.
    """
    load_config(name).save_pretrained(folder)
    mean, std = _stats(_place(name))
    normalisation: dict[str, Any] = {"do_normalize": True, "do_rescale": True, "rescale_factor": 1 / 255}
    normalisation |= {"image_mean": list(mean), "image_std": list(std)}
    (Path(folder) / "preprocessor_config.json").write_text(json.dumps(normalisation, indent=2))


def _place(name: str) -> str:
    """The name by which transformers finds a model.

    Raises:
        InputError: it should be a folder, and there is none with a config.json.
    """
    if name.startswith("hf/"):
        return name.removeprefix("hf/")
    if not (Path(name) / "config.json").is_file():
        raise InputError(f"image encoder {name!r}: no such folder with a config.json. An encoder may be {KINDS}")
    return name


def load_config(name: str) -> Any:
    """The configuration of a model (of the whole if it has two towers).

    Raises:
        InputError: no such model or folder.
    """
    from transformers import AutoConfig

    try:
        return pretrained.fetch(AutoConfig.from_pretrained, _place(name))
    except (OSError, ValueError) as error:
        raise InputError(f"the encoder {name} cannot be loaded: {pretrained.first_line(error)}") from error


def reading(name: str) -> dict[str, Any]:
    """The settings of `Image` that read pictures as a model's own image processor does; {} if it has none.

    Raises:
        InputError: the processor reads pictures in a way that `Image` cannot.
    """
    processor = _processor(_place(name))
    if processor is None:
        return {}
    size, crop = (_plain(getattr(processor, key, None)) for key in ("size", "crop_size"))
    edge, whole = size.get("shortest_edge"), (size.get("height"), size.get("width"))
    if not getattr(processor, "do_resize", True) or (edge is None and None in whole):
        raise InputError(f"the encoder {name} reads pictures of any size, which is not supported: {size}")
    how: dict[str, Any] = {} if edge else {"crop_mode": "squash"}
    if (resample := getattr(processor, "resample", None)) is not None:
        how["interpolation"] = _interpolation(resample)
    if edge and (share := getattr(processor, "crop_pct", None)):  # ConvNeXt's and PoolFormer's
        warped = edge >= WARPED and not getattr(processor, "do_center_crop", False)
        return {"size": (edge, edge), **how, **({"crop_mode": "squash"} if warped else {"crop_pct": share})}
    if not getattr(processor, "do_center_crop", False):
        return {"size": (edge, edge) if edge else whole, **how}
    shape = crop["height"], crop["width"]
    return {"size": shape, "crop_pct": min(1.0, shape[0] / (edge or whole[0])), **how}


def _interpolation(resample: Any) -> str:
    """Pillow's name of an interpolation, from Pillow's number or torchvision's enumeration."""
    name = getattr(resample, "name", None)
    if name is None:
        from PIL.Image import Resampling

        name = Resampling(resample).name
    return str(name).lower()


def _plain(size: Any) -> dict[str, Any]:
    """A size of transformers' as a dict of the keys that are set; fast image processors list all keys."""
    return {key: value for key, value in dict(size or {}).items() if value is not None}


def _processor(place: str) -> Any:
    """The image processor of a model; None if it has none."""
    from transformers import AutoImageProcessor

    try:
        with pretrained.quiet():
            return pretrained.fetch(AutoImageProcessor.from_pretrained, place)
    except (OSError, ValueError, KeyError, ImportError):
        return None


def _stats(place: str) -> Stats:
    """Mean and deviation of a model's image processor, for pixels in [0, 1]; ImageNet's if it has none."""
    processor = _processor(place)
    mean: Any = getattr(processor, "image_mean", None)
    std: Any = getattr(processor, "image_std", None)
    if processor is not None and not processor.do_normalize:
        mean, std = [0.0] * 3, [1.0] * 3
    if not all(isinstance(part, list | tuple) and len(part) == 3 for part in (mean, std)):
        return IMAGENET
    white = 255 * processor.rescale_factor if processor.do_rescale else 255.0  # what the model gets for a 1
    return (mean[0] / white, mean[1] / white, mean[2] / white), (std[0] / white, std[1] / white, std[2] / white)
