"""A two-tower model of transformers (CLIP, SigLIP, CLAP and models built like them) as a recipe's initial state."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import tyro

import multicl
from multicl import Head, InputError
from multicl.modalities import pretrained
from multicl.modalities.image import Augment

GENTLE = Augment(crop=(0.9, 1.0))
"""Views for pretrained encoders: hardly cropped, never flipped. Weak views of sounds are already gentle by default:
only their gain changes."""
LR = 1e-5
OTHERS = {"image": "vision_config", "audio": "audio_config"}
"""The node that is not text -> the key of its half in a model's configuration."""


@dataclass(frozen=True, kw_only=True)
class FromCheckpoint(multicl.Run):
    """A recipe with nodes `text` and `image` or `audio` that may start from a two-tower model."""

    checkpoint: Annotated[str | None, tyro.conf.arg(aliases=["--from"])] = None
    """A transformers model to start from, by name or folder (CLIP or SigLIP for pictures, CLAP for sounds), with its
    preprocessing, projections and, unless others are given, temperature and bias. By default, the learning rate is
    then 1e-5 and views are gentle."""

    def __post_init__(self) -> None:
        node = _other(self)
        if self.checkpoint and getattr(self, node).encoder == getattr(type(self), node).encoder:
            for name, value in settings(self).items():  # else a recorded run, whose settings are complete
                object.__setattr__(self, name, value)

    def trainer(self) -> multicl.Trainer:
        """The usual trainer, initialised with the checkpoint's projections and temperature."""
        trainer = super().trainer()
        if self.checkpoint:
            _begin(self, trainer)
        return trainer


def _begin(recipe: Any, trainer: multicl.Trainer) -> None:
    """Copy the checkpoint's projections, temperature and bias into a trainer's towers.

    Raises:
        InputError: its files lack them, or the temperature is neither learnt nor given.
    """
    from multicl import two_towers

    name, objective, plain = recipe.checkpoint, recipe.objective, type(recipe).objective
    whole, absent = _loaded(pretrained.load, name)
    pair = next(pair for pair in trainer.towers.pairs if {pair.a, pair.b} == {_other(recipe), "text"})
    if lost := [key for key, p in two_towers.between(trainer.towers, pair, whole) if id(p) in absent]:
        raise InputError(f"--from {name}: its files lack {', '.join(lost)}")
    if not objective.learnable and objective.temperature == plain.temperature:
        raise InputError(
            f"--from {name} has a temperature of {two_towers.temperature_of(whole):.6g}: give --objective.temperature "
            "(this or another), or let it be learnt"
        )
    given = [key for key in ("temperature", "bias") if getattr(objective, key, None) != getattr(plain, key, None)]
    two_towers.begin(trainer.towers, pair, whole, keep=given)


def settings(recipe: Any) -> dict[str, Any]:
    """The recipe's `text`, `image` or `audio`, `head` and `train` with the checkpoint's settings instead of defaults.

    Raises:
        InputError: no such model, one that is not a pair of a text encoder and the other, or a setting of the user's
            that contradicts the checkpoint.
    """
    name, node, plain = recipe.checkpoint, _other(recipe), type(recipe)
    config = _config(name, node)
    width: Any = getattr(config, "projection_dim", None)
    positions = _positions(config.text_config)
    shorter = recipe.text.max_tokens if recipe.text.max_tokens != plain.text.max_tokens else positions
    text = replace(
        recipe.text, encoder=_place(name), pooling="pooler", max_tokens=min(shorter, positions),
        fill=node == "image" and width is None,  # SigLIP, which has no mask
    )  # fmt: skip
    lr = LR if recipe.train.lr == plain.train.lr else recipe.train.lr
    head = Head(layers=0) if width is None else Head(dim=width, layers=1, bias=False)
    if node == "image":
        weak = GENTLE if recipe.image.weak == plain.image.weak else recipe.image.weak
        place = _place(name)
        encoder = place if Path(place).is_dir() else f"hf/{place}"
        other = replace(recipe.image, encoder=encoder, weak=weak, **_pictures(name, encoder, config.vision_config))
    else:
        from multicl.modalities.audio import pretrained as of_sounds

        extractor: Any = of_sounds.describe(_place(name))[1]
        seconds = of_sounds.heard_seconds(extractor) or recipe.audio.max_seconds
        other = replace(recipe.audio, encoder=_place(name), rate=extractor.sampling_rate, max_seconds=seconds)
        head = Head(dim=width, layers=2, hidden=width)
    decided = {node: other, "text": text, "head": head}
    for part, settled in decided.items():
        _check_decided(name, part, getattr(recipe, part), getattr(plain, part), settled)
    return {**decided, "train": replace(recipe.train, lr=lr)}


def _check_decided(name: str, part: str, given: Any, default: Any, settled: Any) -> None:
    """Refuse settings that the user changed and that contradict the checkpoint."""
    for key in (field.name for field in fields(given)):
        value, now = getattr(given, key), getattr(settled, key)
        if value not in (getattr(default, key), now):
            flag = f"--{part}.{key}".replace("_", "-")
            raise InputError(f"--from {name} has {part}.{key} = {now!r}: leave out {flag} {value}")


def _other(recipe: Any) -> str:
    """The node that is not text."""
    return next(node for node in OTHERS if hasattr(recipe, node))


def _pictures(name: str, encoder: str, vision: Any) -> dict[str, Any]:
    """The settings of `Image` that read pictures as the checkpoint does."""
    from multicl.modalities.image.huggingface import reading

    if not hasattr(vision, "image_size"):
        raise InputError(f"--from {name}: a {type(vision).__name__} takes pictures of any size, which is not supported")
    read = reading(encoder)
    height, width = read.get("size", (int(vision.image_size),) * 2)
    usual = {"crop_pct": 1.0, "crop_mode": "center", "interpolation": "bicubic"}
    return {**usual, **read, "size": height if height == width else (height, width)}


def _config(name: str, node: str) -> Any:
    from transformers import AutoConfig

    from multicl.saved import config_of

    if any(config_of(folder) for folder in (Path(name), Path(name) / "model")):
        form = "clip" if node == "image" else "clap"
        raise InputError(
            f"--from {name} is a model of multicl: run multicl export {quote(name)} --to {form}, and give that folder"
        )
    config = _loaded(partial(pretrained.fetch, AutoConfig.from_pretrained), name)
    if not all(getattr(config, part, None) is not None for part in (OTHERS[node], "text_config")):
        article = "an image" if node == "image" else "an audio"
        raise InputError(f"--from {name}: a {type(config).__name__} is not a pair of a text and {article} encoder")
    return config


def _positions(text: Any) -> int:
    """Tokens of the longest text. Positions of RoBERTa, CLAP's text half, start after its padding index."""
    from transformers import ClapTextConfig

    counted_from = int(text.pad_token_id or 0) + 1 if type(text) is ClapTextConfig else 0
    return int(text.max_position_embeddings) - counted_from


def _place(name: str) -> str:
    """The absolute path of a folder, or the name on the hub."""
    return str(Path(name).resolve()) if Path(name).is_dir() else name.removeprefix("hf/")


def _loaded(loader: Any, name: str) -> Any:
    try:
        return loader(_place(name))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"--from {name} cannot be loaded: {pretrained.first_line(error)}") from error
