"""A small model of pictures, texts and sounds, untrained, for tests of search."""

from __future__ import annotations

from pathlib import Path

import torch

from multicl import Head, Model, Pair, load
from multicl.modalities.audio import Audio
from multicl.modalities.image import Image
from multicl.modalities.text import Text
from multicl.towers import Towers


def model(seed: int = 0) -> Model:
    """Nodes image, text and audio in one space of 8 dimensions."""
    torch.manual_seed(seed)
    nodes = {"image": Image("small", size=16), "text": Text("words", width=16), "audio": Audio("small")}
    return Model(Towers(nodes, [Pair("image", "text"), Pair("text", "audio")], Head(dim=8, layers=1)))


def saved(folder: Path, seed: int = 0) -> Path:
    """The same model, saved in a folder."""
    return model(seed).save(folder)


def load_again(made: Model, folder: Path) -> Model:
    """A model, saved and loaded."""
    return load(made.save(folder), device="cpu")
