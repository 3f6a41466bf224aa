"""Exports a trained encoder, or both of a pair, as a folder that other libraries load. Adapters do the conversion."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, Protocol, get_args, runtime_checkable

from torch import nn

from multicl import two_towers
from multicl.files import share, writing
from multicl.model import DEFAULT, Model, load
from multicl.pairs import Pair
from multicl.two_towers import HalfOfTwo
from multicl.types import Half, InputError

Form = Literal["sentence-transformers", "transformers", "onnx", "timm", "torchvision", "clip", "clap"]
FORMS: tuple[str, ...] = get_args(Form)
PAIRS = {"clip": "vision_config", "clap": "audio_config"}
"""Forms that hold both encoders of a pair -> attribute by which the configuration of such a model is recognised."""
FEATURES = ("transformers", "timm", "torchvision")
"""Forms that cannot hold a head."""
NO_FORM = "none; use multicl.load(RUN) in Python, or multicl embed"


@runtime_checkable
class Exports(Protocol):
    """What an adapter provides besides `Modality` if other libraries can hold its encoders."""

    def forms(self, encoder: nn.Module) -> Sequence[str]:
        """The forms that can hold this encoder."""
        ...

    def export(self, encoder: nn.Module, head: nn.Module | None, folder: Path, form: str) -> str:
        """Write a trained encoder to a folder, in one of its `forms`; returns instructions for use, as Markdown.

        Raises:
            InputError: the form cannot hold the head, or something that the settings ask for.
        """
        ...


def export(
    name: str | Path, to: Form, out: str | Path | None = None, *, node: str | None = None, space: str | None = DEFAULT
) -> Path:
    """Write a model's encoder, or both encoders of a pair, for another library, with a card that has the run's figures.

    Args:
        name: a run, a model or a hub name.
        to: "clip" and "clap" hold both encoders of a pair, their heads, temperature and bias; other forms one encoder.
        out: a new folder; default: a folder named after the form, inside the run's.
        node: whose encoder; default: the only one that this form can hold.
        space: the space whose head is included, or None for features; default: the recipe's choice. transformers, timm
            and torchvision hold features only. For "clip" and "clap", the space of the pair.

    Returns:
        The folder.

    Raises:
        InputError: the form cannot hold anything of the model (the message says which forms can), or could hold several
            things; or the folder exists or cannot be written.
    """
    if to not in FORMS:
        raise InputError(f"--to must be one of {list(FORMS)}, got {to!r}")
    home = Path(name).expanduser()
    folder = Path(out or (home / to if home.is_dir() else f"{home.name}-{to}")).expanduser().resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already: give another --out")
    model = load(name, device="cpu")
    model.towers.float()  # a user may have saved 16-bit weights, which not every form can hold
    beside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    with writing(folder, "or give another --out"):
        beside.mkdir(parents=True)
    try:
        card = (_two if to in PAIRS else _one)(model, to, node, space, beside)
        (beside / "README.md").write_text(card + _figures(home), encoding="utf-8")
        share(beside, beside / "README.md")
        if folder.exists():
            folder.rmdir()
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def fitting(model: Model) -> dict[str, list[str]]:
    """Form that can hold part of a model -> the nodes that it can hold, or for "clip" and "clap" the pairs."""
    towers, found = model.towers, dict[str, list[str]]()
    for node, modality in towers.modalities.items():
        for form in modality.forms(towers.encoder(node)) if isinstance(modality, Exports) else ():
            found.setdefault(form, []).append(node)
    for pair in towers.pairs:
        for form in PAIRS:
            with suppress(InputError):
                _whole(model, pair, form)
                found.setdefault(form, []).append(pair.name)
    return found


def _one(model: Model, to: str, node: str | None, space: str | None, folder: Path) -> str:
    """Write one encoder; returns the model card."""
    node = _node(model, to, node)
    modality = model.towers.modalities[node]
    assert isinstance(modality, Exports)
    if space == DEFAULT:
        space = None if to in FEATURES else model.space
    if space is not None and space not in model.towers.spaces_of(node):
        own = list(model.towers.spaces_of(node))
        raise InputError(f"{node!r} has no space {space!r}; it has {own} and features (in Python: None)")
    usage = modality.export(model.towers.encoder(node), _head(model, node, space), folder, to)
    what = "The encoder's features" if space is None else f"The encoder and its head into the space {space!r}"
    return _card(to, f"{what}, of the node {node!r}.", usage)


def _two(model: Model, to: str, node: str | None, space: str | None, folder: Path) -> str:
    """Write both encoders of a pair as one transformers model; returns the model card."""
    if node is not None:
        raise InputError(f"--to {to} writes both nodes of a pair: leave out --node {node}")
    if space is None:
        raise InputError(f"--to {to} writes encoders and heads: leave out --space features")
    pairs, reasons = [], []
    for pair in model.towers.pairs:
        if space in (DEFAULT, pair.space):
            try:
                pairs.append((pair, *_whole(model, pair, to)))
            except InputError as error:
                reasons.append(f"{pair.name}: {error}")
    if not pairs:
        raise _nothing(
            model, to, reasons or ["it has no pair" if space == DEFAULT else f"it has no pair in space {space!r}"]
        )
    if len(pairs) > 1:
        raise InputError(f"several pairs can be exported: name one of {[p.space for p, _, _ in pairs]} with --space")
    pair, config, halves = pairs[0]
    two_towers.joined(model.towers, pair, config, halves).save_pretrained(folder)
    for half in halves:
        half.processor().save_pretrained(folder)
    lines = "\n".join(half.usage for half in halves)
    notes = "".join(f"\n{half.notes}\n" for half in halves if half.notes)
    usage = f"""```python
import torch
from transformers import AutoModel, AutoProcessor
model, processor = AutoModel.from_pretrained("this-folder").eval(), AutoProcessor.from_pretrained("this-folder")
with torch.no_grad():
{lines}
```

Vectors are compared by their cosine.
{notes}"""
    return _card("transformers", f"Both encoders, heads and temperature of the pair {pair.name!r}.", usage)


def _whole(model: Model, pair: Pair, to: str) -> tuple[object, tuple[Half, Half]]:
    """The configuration of a two-tower model of that form, and the pair's two halves of it.

    Raises:
        InputError: the pair is not such a model.
    """
    towers, halves = model.towers, list[Half]()
    for node in (pair.a, pair.b):
        modality = towers.modalities[node]
        if not isinstance(modality, HalfOfTwo):
            raise InputError(f"two-tower models have no encoder for the kind of {node!r}")
        halves.append(modality.half(towers.encoder(node)))
    config = next((half.config for half in halves if hasattr(half.config, PAIRS[to])), None)
    if config is None or pair.a == pair.b:
        raise InputError(f"its encoders do not come from a {to.upper()} model")
    return config, (halves[0], halves[1])


def _node(model: Model, to: str, wanted: str | None) -> str:
    """The node to export; if nodes share a tower, the first of them."""
    towers = model.towers
    if wanted is not None and wanted not in towers.modalities:
        raise InputError(f"no node is named {wanted!r}; there are {model.nodes}")
    able = [
        node
        for node, modality in towers.modalities.items()
        if isinstance(modality, Exports) and to in modality.forms(towers.encoder(node))
    ]
    if wanted in able:
        return wanted
    if wanted is not None or not able:
        nodes = [wanted] if wanted is not None else model.nodes
        raise _nothing(model, to, [f"{n}: {type(towers.encoder(n)).__name__}" for n in nodes])
    if len({towers.towers[node] for node in able}) > 1:
        raise InputError(f"several nodes can be exported: name one of {able} with --node")
    return able[0]


def _nothing(model: Model, to: str, reasons: Sequence[str]) -> InputError:
    """The error for a model that the form cannot hold; it lists the forms that can."""
    fits = [f"--to {form} ({', '.join(names)})" for form, names in fitting(model).items()]
    return InputError(
        f"--to {to} cannot hold this model ({'; '.join(reasons)}). Forms that fit: {', '.join(fits) or NO_FORM}"
    )


def _head(model: Model, node: str, space: str | None) -> nn.Module | None:
    head = None if space is None else model.towers.head(node, space).eval()
    return None if isinstance(head, nn.Identity) else head


def _figures(home: Path) -> str:
    """The section of figures in the model's own card; empty if there is none."""
    for card in (home / "model" / "README.md", home / "README.md"):
        if card.is_file():
            _, heading, table = card.read_text(encoding="utf-8").partition("\n## Measured\n")
            return heading + table
    return ""


def _card(library: str, what: str, usage: str) -> str:
    return f"""---
library_name: {library}
pipeline_tag: feature-extraction
tags: [contrastive-learning, multicl]
---
# A model trained with multicl

{what}

{usage}"""
