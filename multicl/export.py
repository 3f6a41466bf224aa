"""A trained encoder as a folder that other libraries load. The adapter writes it, as it alone knows its encoders."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal, Protocol, get_args, runtime_checkable

from torch import nn

from multicl.model import DEFAULT, Model, load
from multicl.types import InputError

Form = Literal["sentence-transformers", "transformers", "onnx"]
FORMS: tuple[str, ...] = get_args(Form)


@runtime_checkable
class Exports(Protocol):
    """What an adapter offers beside `Modality` if other libraries can hold its encoders."""

    def export(self, encoder: nn.Module, head: nn.Module | None, folder: Path, form: str) -> str:
        """Write an encoder, built and trained, to a folder; gives how it is used there, as Markdown.

        Raises:
            InputError: that form cannot hold the encoder or its head.
        """
        ...


def export(
    name: str | Path, to: Form, out: Path | None = None, *, node: str | None = None, space: str | None = DEFAULT
) -> Path:
    """Write a model's encoder for another library, with a model card that has the run's figures.

    Args:
        name: a run, a model or a hub name. out: a new folder; default: named after the form, in the run's.
        node: whose encoder; default: the only one there is.
        space: with the head of a space, or None for features; default: the recipe's choice. transformers: features.

    Returns:
        The folder.

    Raises:
        InputError: nothing that can be exported, or more than one thing; or the folder is there.
    """
    if to not in FORMS:
        raise InputError(f"--to must be one of {list(FORMS)}, got {to!r}")
    home = Path(name).expanduser()
    folder = (out or (home / to if home.is_dir() else Path(f"{home.name}-{to}"))).resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists: give --out another name")
    model = load(name, device="cpu")
    node = _node(model, node)
    modality = model.towers.modalities[node]
    assert isinstance(modality, Exports)
    if space == DEFAULT:
        space = None if to == "transformers" else model.space
    if space is not None and space not in model.towers.spaces_of(node):
        raise InputError(f"{node!r} has no space {space!r}; it has {list(model.towers.spaces_of(node))} and features")
    beside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        usage = modality.export(model.towers.encoder(node), _head(model, node, space), beside, to)
        (beside / "README.md").write_text(_card(to, node, space, usage, _figures(home)), encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _node(model: Model, wanted: str | None) -> str:
    """The node to export; of nodes that share a tower the first stands for all."""
    towers = model.towers
    able = [node for node, modality in towers.modalities.items() if isinstance(modality, Exports)]
    if wanted is not None:
        if wanted not in towers.modalities:
            raise InputError(f"no node is named {wanted!r}; there are {model.nodes}")
        if wanted not in able:
            raise InputError(f"the encoder of {wanted!r} is of a kind that other libraries cannot hold")
        return wanted
    if not able:
        raise InputError(
            f"none of the model's nodes {model.nodes} has an encoder that other libraries can hold: those of texts "
            "can be exported"
        )
    if len({towers.towers[node] for node in able}) > 1:
        raise InputError(f"several nodes can be exported: name one of {able} with --node")
    return able[0]


def _head(model: Model, node: str, space: str | None) -> nn.Module | None:
    head = None if space is None else model.towers.head(node, space).eval()
    return None if isinstance(head, nn.Identity) else head


def _figures(home: Path) -> str:
    """The figures of the model's own card."""
    for card in (home / "model" / "README.md", home / "README.md"):
        if card.is_file():
            _, heading, table = card.read_text(encoding="utf-8").partition("\n## Measured\n")
            return heading + table
    return ""


def _card(to: str, node: str, space: str | None, usage: str, figures: str) -> str:
    what = "The encoder's features" if space is None else f"The encoder and its head into the space {space!r}"
    return f"""---
library_name: {to}
pipeline_tag: feature-extraction
tags: [contrastive-learning, multicl]
---
# A model trained with multicl

{what}, of the node {node!r}.

{usage}{figures}"""
