"""A text-image model of transformers (CLIP, SigLIP and what is built as they are) as a recipe's first state."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multicl import Head, InputError
from multicl.modalities import pretrained
from multicl.modalities.image import Augment

if TYPE_CHECKING:
    from multicl.towers import Towers

GENTLE = Augment(crop=(0.9, 1.0))
"""Views for encoders that have seen much already: hardly cropped, never mirrored."""
LR = 1e-5


@dataclass(frozen=True)
class Checkpoint:
    """What a model's configuration says.

    Args:
        name: of the hub, or a folder.

    Raises:
        InputError: no such model, or one that is no pair of a text and an image encoder.
    """

    name: str
    size: int
    max_tokens: int
    head: Head
    fill: bool
    """Texts are filled up with padding that is read: of models without a mask, whose loss has a bias."""

    @property
    def image_encoder(self) -> str:
        """As `Image` has it."""
        return str(Path(self.name).resolve()) if Path(self.name).is_dir() else f"hf/{self.name.removeprefix('hf/')}"

    @property
    def text_encoder(self) -> str:
        """As `Text` has it."""
        return str(Path(self.name).resolve()) if Path(self.name).is_dir() else self.name


def read(name: str) -> Checkpoint:
    """The settings of a checkpoint; its weights are not read yet."""
    from transformers import AutoConfig

    config = _loaded(AutoConfig.from_pretrained, name)
    vision, text = getattr(config, "vision_config", None), getattr(config, "text_config", None)
    if vision is None or text is None or not hasattr(vision, "image_size"):
        raise InputError(f"--from {name}: a {type(config).__name__} is no pair of a text and an image encoder")
    width = getattr(config, "projection_dim", None)
    head = Head(layers=0) if width is None else Head(dim=width, layers=1, bias=False)
    return Checkpoint(name, int(vision.image_size), int(text.max_position_embeddings), head, fill=width is None)


def settings(recipe: Any, plain: Any) -> dict[str, Any]:
    """What a recipe of `image`, `text`, `head` and `train` becomes; `plain`: its class, whose defaults give way."""
    found = read(recipe.checkpoint)
    weak = GENTLE if recipe.image.weak == plain.image.weak else recipe.image.weak
    lr = LR if recipe.train.lr == plain.train.lr else recipe.train.lr
    text = {"encoder": found.text_encoder, "pooling": "pooler", "max_tokens": found.max_tokens, "fill": found.fill}
    return {
        "image": replace(recipe.image, encoder=found.image_encoder, size=found.size, weak=weak),
        "text": replace(recipe.text, **text),
        "head": found.head,
        "train": replace(recipe.train, lr=lr),
    }


def put(name: str, towers: Towers, pair: str = "image-text") -> None:
    """The checkpoint's projections and temperature, in place of those that were drawn; encoders have theirs already."""
    import torch

    model, _ = _loaded(pretrained.load, name)
    space = next(p.space for p in towers.pairs if p.name == pair)
    with torch.no_grad():
        for node, part in (("image", "visual_projection"), ("text", "text_projection")):
            if hasattr(model, part):
                towers.head(node, space)[-1].weight.copy_(getattr(model, part).weight)  # type: ignore[index]
        objective: Any = towers.objectives[pair]
        if getattr(objective, "log_scale", None) is not None:
            scale = float(model.logit_scale.detach())
            objective.most = max(objective.most, scale)
            objective.log_scale.fill_(scale)
        if hasattr(model, "logit_bias") and hasattr(objective, "bias"):
            objective.bias.fill_(float(model.logit_bias.detach()))


def _loaded(loader: Any, name: str, **settings: Any) -> Any:
    try:
        return loader(name.removeprefix("hf/"), **settings)
    except (OSError, ValueError, KeyError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"--from {name}: there is no such model to be had: {reason}") from error
