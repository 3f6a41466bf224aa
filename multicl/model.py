"""A model: trained towers that embed what people have, saved as a folder and loaded without a hub."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_model
from torch import Tensor, nn

import multicl.objectives as objectives
from multicl.adapters import adapter, adapter_name
from multicl.config import from_plain, to_plain
from multicl.pairs import Pair, Term
from multicl.predict import probabilities, target_of
from multicl.settings import Mine
from multicl.targets import Target
from multicl.towers import Head, Towers
from multicl.types import BadSample, InputError, Modality, Objective

FORMAT = 1
DEFAULT = "the recipe's choice"
"""Stands for the space that the model's recipe chose; no space can have this name."""


@dataclass(frozen=True)
class Foreign:
    """An objective that is not multicl's own, in a loaded model: kept as it was saved, not to be trained with."""

    name: str
    settings: Any

    def build(self, dims: tuple[int, int]) -> nn.Module:
        """A module that holds nothing: embedding needs no objective."""
        return nn.Module()


class Model:
    """Towers and the space in which they are compared.

    Args:
        space: what `embed` gives unless told otherwise: a space's unit vectors, or None for the encoders' features.
    """

    def __init__(self, towers: Towers, space: str | None = "joint") -> None:
        if space is not None and space not in towers.spaces:
            raise InputError(f"no space is named {space!r}; there are {list(towers.spaces)} and None for features")
        self.towers, self.space = towers, space

    @property
    def nodes(self) -> list[str]:
        """The names that `embed` takes."""
        return list(self.towers.modalities)

    def embed(
        self, *, space: str | None = DEFAULT, batch_size: int = 128, normalize: bool = True, **cells: Iterable[Any]
    ) -> Tensor:
        """Embed the cells of one node: `model.embed(image=["a.png", "b.png"])`, `model.embed(text=["two words"])`.

        Args:
            space, batch_size, normalize: as in `embed_node`.
            cells: node -> what its modality reads: paths, bytes, arrays, strings.

        Returns:
            [N, D] float32 on the CPU, in the order given; unit vectors unless told otherwise. The same call gives the
            same bits.

        Raises:
            InputError: an unknown node or space, or a cell that cannot be read, by its position.
        """
        if len(cells) != 1:
            raise InputError(f"embed takes one node at a time, of {self.nodes}; got {sorted(cells) or 'none'}")
        ((node, values),) = cells.items()
        return self.embed_node(node, values, space=space, batch_size=batch_size, normalize=normalize)

    def embed_node(
        self,
        node: str,
        values: Iterable[Any],
        *,
        space: str | None = DEFAULT,
        batch_size: int = 128,
        normalize: bool = True,
        skipped: dict[int, str] | None = None,
    ) -> Tensor:
        """Embed the cells of a node by its name.

        Args:
            values: what its modality reads.
            space: a space's name, or None for the encoder's features; default: the recipe's choice.
            batch_size: cells computed at once.
            normalize: unit vectors.
            skipped: where given, cells that cannot be read are noted here (position -> reason) and get zero vectors.

        Returns and raises: as `embed`.
        """
        if node not in self.towers.modalities:
            raise InputError(f"no node is named {node!r}; there are {self.nodes}")
        if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__"):
            raise InputError(f"{node}= takes a list of cells, got one {type(values).__name__}: write {node}=[...]")
        if batch_size < 1:
            raise InputError(f"batch_size must be 1 or more, got {batch_size}")
        values = list(values)
        chosen = self.space if space == DEFAULT else space
        if chosen is not None and chosen not in self.towers.spaces_of(node):
            raise InputError(f"{node!r} has no space {chosen!r}; it has {list(self.towers.spaces_of(node))} and None")
        width = self.towers.width(node) if chosen is None else self.towers.dim(node, chosen)
        out = torch.zeros(len(values), width)
        modes = {module: module.training for module in self.towers.modules()}
        self.towers.eval()
        window = 16 * batch_size  # so many are decoded at once, and sorted by length among themselves
        try:
            with torch.no_grad():
                for start in range(0, len(values), window):
                    self._embed_window(node, values[start : start + window], start, chosen, batch_size, out, skipped)
        finally:
            for module, training in modes.items():
                module.training = training
        return torch.nn.functional.normalize(out, dim=1) if normalize else out

    def _embed_window(
        self,
        node: str,
        cells: Sequence[Any],
        start: int,
        space: str | None,
        batch_size: int,
        out: Tensor,
        skipped: dict[int, str] | None,
    ) -> None:
        modality = self.towers.modalities[node]
        device = next(self.towers.parameters()).device
        samples: dict[int, Any] = {}
        for i, cell in enumerate(cells, start):
            try:
                samples[i] = modality.load(cell, None)
            except BadSample as error:
                if skipped is None:
                    raise InputError(f"{node}[{i}]: {error}") from None
                skipped[i] = str(error)
        order = sorted(samples, key=lambda i: _length(samples[i]))
        for at in range(0, len(order), batch_size):
            chosen = order[at : at + batch_size]
            batch = modality.view(modality.collate([samples[i] for i in chosen]).to(device), None, "weak")
            (z,) = self.towers.embed(node, batch, [space])
            out[chosen] = z.cpu()

    def predict(self, target: str | None = None, *, batch_size: int = 128, **cells: Iterable[Any]) -> list[str]:
        """The class of each cell of a target's node: `model.predict(image=["a.png"])`.

        Args:
            target: its name, where the node has several. batch_size, cells: as in `embed`.

        Raises:
            InputError: as `embed`, or no such target.
        """
        if len(cells) != 1:
            raise InputError(f"predict takes one node at a time, of {self.nodes}; got {sorted(cells) or 'none'}")
        ((node, values),) = cells.items()
        found = target_of(self.towers, target, node)
        best = probabilities(self, found, values, batch_size).argmax(1)
        return [found.classes[i] for i in best.tolist()]

    def save(self, folder: str | Path, figures: Mapping[str, float] | None = None) -> Path:
        """Write config.json, model.safetensors, what the adapters need, and a model card; beside first, then renamed.

        Args:
            folder: a new folder, or a model's, which is replaced.
            figures: measured, for the model card.

        Raises:
            InputError: the folder holds something else, or a modality's class is no registered adapter.
        """
        folder = Path(folder).resolve()
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        if taken and _config_of(folder) is None:
            raise InputError(f"{folder} exists and is no multicl model: give another folder")
        adapters = {node: adapter_name(modality) for node, modality in self.towers.modalities.items()}
        beside = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        nodes = {}
        for node, modality in self.towers.modalities.items():
            (beside / node).mkdir()
            modality.save(beside / node)
            if not any((beside / node).iterdir()):
                (beside / node).rmdir()
            nodes[node] = {"adapter": adapters[node], "from": _home_of(modality), "settings": to_plain(modality)}
        config = {
            "format": FORMAT,
            "library": "multicl",
            "space": self.space,
            "modalities": nodes,
            "heads": {space: to_plain(h) for space, h in self.towers.head_settings.items()},
            "pairs": [{**to_plain(pair), "objective": _objective_entry(pair.objective)} for pair in self.towers.pairs],
            "targets": [{**to_plain(t), "objective": _objective_entry(t.objective)} for t in self.towers.targets],
        }
        (beside / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")
        save_model(self.towers, str(beside / "model.safetensors"))
        (beside / "README.md").write_text(_card(config, figures or {}, self.towers), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
        return folder


def load(name: str | Path, *, modalities: Mapping[str, Modality] | None = None, device: str | None = None) -> Model:
    """Load a model from a folder (a model's or a run's) or from the hub. No pickle is read, nothing else downloaded.

    Args:
        modalities: node -> adapter, for nodes whose encoder is a module of one's own.
        device: default: the GPU where there is one.

    Raises:
        InputError: no such folder, no multicl model, or weights that do not fit.
    """
    folder = _folder(name)
    config = _config_of(folder)
    if config is None:
        raise InputError(f"{folder} holds no model: no config.json of a multicl model of format {FORMAT}")
    given = dict(modalities or {})
    try:
        nodes = {n: given.pop(n) if n in given else _modality(n, e, folder) for n, e in config["modalities"].items()}
        heads = {space: from_plain(Head, h, f"heads.{space}") for space, h in config["heads"].items()}
        terms: list[Term] = [Pair(**_term(plain)) for plain in config["pairs"]]
        terms += [Target(**_term(plain)) for plain in config.get("targets", [])]
        space = config["space"]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder}/config.json is damaged: {error!r}") from error
    if given:
        raise InputError(f"modalities= names {sorted(given)}, but the model's nodes are {list(nodes)}")
    towers = Towers(nodes, terms, heads, weights=False)
    _load_weights(towers, folder / "model.safetensors")
    model = Model(towers.eval(), space)
    model.towers.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return model


def _config_of(folder: Path) -> dict[str, Any] | None:
    """A model folder's config.json; None where it is none."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    own = isinstance(config, dict) and config.get("library") == "multicl" and config.get("format") == FORMAT
    return config if own else None


def _modality(node: str, entry: Mapping[str, Any], folder: Path) -> Modality:
    settings = entry["settings"]
    if isinstance(settings.get("encoder"), Mapping):
        raise InputError(
            f"the encoder of {node!r} is a module of its author's own ({settings['encoder'].get('object')}): "
            f"give it as load(..., modalities={{{node!r}: ...}})"
        )
    try:
        cls = adapter(entry["adapter"])
    except InputError as error:
        raise InputError(f"node {node!r}: {error} The model's author had it from {entry.get('from')}.") from error
    return from_plain(cls, settings, node).restored(folder / node)


def _home_of(modality: Modality) -> str:
    """What brings an adapter, for those who lack it: its module, of a file its name alone."""
    module = sys.modules[type(modality).__module__]
    return f"{Path(module.__file__).name}" if module.__name__ == "__main__" and module.__file__ else module.__name__


def _objective_entry(objective: Objective) -> dict[str, Any]:
    """{name: settings}; the name is bare where the objective is multicl's own."""
    if isinstance(objective, Foreign):
        return {objective.name: objective.settings}
    cls = type(objective)
    own = getattr(objectives, cls.__name__, None) is cls
    plain = to_plain(objective)
    if isinstance(objective, objectives.Matryoshka | objectives.Predicted):
        plain["objective"] = _objective_entry(objective.objective)
    return {cls.__name__ if own else f"{cls.__module__}.{cls.__qualname__}": plain}


def _term(plain: dict[str, Any]) -> dict[str, Any]:
    """A term's fields as saved; embedding needs no objective, so one that is not multicl's own is no obstacle."""
    mine = {"mine": from_plain(Mine, plain["mine"], "mine")} if plain.get("mine") else {}
    return {**plain, **mine, "objective": _objective(plain["objective"])}


def _objective(entry: dict[str, Any]) -> Objective:
    ((name, settings),) = entry.items()
    known = getattr(objectives, name, None) if name in objectives.__all__ else None
    if known is objectives.Matryoshka:
        return objectives.Matryoshka(_objective(settings["objective"]), dims=tuple(settings["dims"]))
    if known is objectives.Predicted:
        return objectives.Predicted(**{**settings, "objective": _objective(settings["objective"])})
    return from_plain(known, settings, name) if known else Foreign(name, settings)


def _load_weights(towers: Towers, path: Path) -> None:
    own = towers.state_dict()
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    # safetensors keeps one name of tensors that share memory: a missing name may be another's alias
    kept = {own[name].data_ptr() for name in found if name in own}
    wrong = [n for n, t in found.items() if n not in own or own[n].shape != t.shape]
    wrong += [n for n, t in own.items() if n not in found and t.numel() and t.data_ptr() not in kept]
    used = tuple(f"objectives.{t.name}." for t in towers.targets if not isinstance(t.objective, Foreign))
    wrong = sorted(n for n in wrong if not n.startswith("objectives.") or n.startswith(used))
    if wrong:
        more = f" and {len(wrong) - 1} more" if wrong[1:] else ""
        raise InputError(f"{path} does not fit its config.json: {wrong[0]!r}{more}")
    towers.load_state_dict({n: t for n, t in found.items() if n in own and t.shape == own[n].shape}, strict=False)


def _folder(name: str | Path) -> Path:
    folder = Path(name).expanduser()
    if (folder / "model" / "config.json").is_file():
        return folder / "model"
    if (folder / "recipe.yaml").is_file():
        raise InputError(f"the run {folder} holds no model yet: finish it with --run {folder} --resume auto")
    if folder.exists():
        return folder
    if folder.is_absolute() or str(name).count("/") != 1 or str(name).startswith("."):
        raise InputError(f"no such folder: {name}")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(name), allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"]))
    except Exception as error:  # many kinds; all of them mean that there is nothing to be had under this name
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(f"{name!r} is neither a folder nor a model that the hub gives: {reason}") from error


def _length(sample: Any) -> int:
    """What batches are sorted by: a one-dimensional sample's length; pictures are all alike."""
    shape = getattr(sample, "shape", None)
    if shape is not None:
        return int(shape[0]) if len(shape) == 1 else 0
    return len(sample) if hasattr(sample, "__len__") else 0


def _card(config: Mapping[str, Any], figures: Mapping[str, float], towers: Towers) -> str:
    size = sum(p.numel() for p in towers.parameters())
    node = next(iter(config["modalities"]))
    call = f"{node}=[...]" if node.isidentifier() else f'**{{"{node}": [...]}}'
    rows = "\n".join(f"| {name} | {value:.4g} |" for name, value in figures.items())
    table = f"\n## Measured\n\n| figure | value |\n|---|---|\n{rows}\n" if rows else ""
    nodes = ", ".join(f"{n} ({e['adapter']})" for n, e in config["modalities"].items())
    terms = f"Pairs: {', '.join(p['name'] for p in config['pairs']) or 'none'}."
    for target in config["targets"]:
        terms += f" Target: {target['name']}, {len(target['classes'])} classes."
    return f"""---
library_name: multicl
tags: [contrastive-learning, multicl]
---
# A multicl model

Nodes: {nodes}. {terms} {size / 1e6:.2f} M parameters.

```python
import multicl
model = multicl.load("this-folder")
vectors = model.embed({call})  # [N, D]
```
{table}"""
