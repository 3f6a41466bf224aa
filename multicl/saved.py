"""A model's folder: config.json describes nodes, heads and terms, and towers are rebuilt from it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from shlex import quote
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

import multicl.objectives as objectives
from multicl.adapters import adapter, adapter_name
from multicl.config import from_plain, to_plain
from multicl.graph import Term
from multicl.narrow import NARROW
from multicl.pairs import Pair
from multicl.repeats import check_one
from multicl.settings import Mine
from multicl.targets import Target
from multicl.towers import Head, Towers
from multicl.types import InputError, Modality, Objective

FORMAT = 1


@dataclass(frozen=True)
class Foreign:
    """An objective in a loaded model that is not multicl's own: kept as it was saved, but not usable for training."""

    name: str
    settings: Any

    def build(self, dims: tuple[int, int]) -> nn.Module:
        """An empty module: embedding needs no objective."""
        return nn.Module()


def described(towers: Towers, space: str | None) -> dict[str, Any]:
    """The contents of config.json for these towers.

    Raises:
        InputError: a modality's class is not a registered adapter.
    """
    return {
        "format": FORMAT,
        "library": "multicl",
        "space": space,
        "modalities": {
            node: {"adapter": adapter_name(modality), "from": _home_of(modality), "settings": to_plain(modality)}
            for node, modality in towers.modalities.items()
        },
        "heads": {name: to_plain(head) for name, head in towers.head_settings.items()},
        "pairs": [{**to_plain(pair), "objective": _objective_entry(pair.objective)} for pair in towers.pairs],
        "targets": [{**to_plain(t), "objective": _objective_entry(t.objective)} for t in towers.targets],
    }


def built(config: Mapping[str, Any], folder: Path, modalities: Mapping[str, Modality]) -> tuple[Towers, str | None]:
    """(towers as described by a config.json, without their weights; the space that the recipe chose).

    Args:
        folder: where the adapters find their files. modalities: as given to `multicl.load`.

    Raises:
        InputError: config.json is damaged, an adapter is missing, or `modalities` names nodes that the model lacks.
    """
    given, nodes, homes = dict(modalities), dict[str, Modality](), dict[str, str]()
    try:
        for node, entry in config["modalities"].items():  # nodes of one tower have one encoder, from one folder
            home = homes.setdefault(entry["settings"].get("tower") or node, node)
            nodes[node] = given.pop(node) if node in given else _modality(node, entry, folder / home)
        heads = {space: from_plain(Head, h, f"heads.{space}") for space, h in config["heads"].items()}
        terms: list[Term] = [Pair(**_term(plain)) for plain in config["pairs"]]
        terms += [Target(**_term(plain)) for plain in config.get("targets", [])]
        space = config["space"]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"config.json is damaged: {error!r}") from error
    if given:
        raise InputError(f"modalities= names {sorted(given)}, but the model's nodes are {list(nodes)}")
    return Towers(nodes, terms, heads, weights=False), space


def config_of(folder: Path) -> dict[str, Any] | None:
    """The config.json of a model's folder; None if there is no valid one."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    own = isinstance(config, dict) and config.get("library") == "multicl" and config.get("format") == FORMAT
    return config if own else None


def _modality(node: str, entry: Mapping[str, Any], home: Path) -> Modality:
    """A node's adapter; `home` has the files saved by it, or by another node of its tower."""
    settings = entry["settings"]
    if isinstance(settings.get("encoder"), Mapping):
        raise InputError(
            f"the encoder of {node!r} is a custom module ({settings['encoder'].get('object')}): "
            f"give it as load(..., modalities={{{node!r}: ...}})"
        )
    try:
        cls = adapter(entry["adapter"])
    except InputError as error:
        raise InputError(f"node {node!r}: {error} The model was saved with it from {entry.get('from')}.") from error
    return from_plain(cls, settings, node).restored(home)


def _home_of(modality: Modality) -> str:
    """Where an adapter comes from, for those who lack it: its module, or the name of a script."""
    module = sys.modules[type(modality).__module__]
    return f"{Path(module.__file__).name}" if module.__name__ == "__main__" and module.__file__ else module.__name__


def _objective_entry(objective: Objective) -> dict[str, Any]:
    """{name: settings}; the name has no module if the objective is multicl's own."""
    if isinstance(objective, Foreign):
        return {objective.name: objective.settings}
    cls = type(objective)
    own = getattr(objectives, cls.__name__, None) is cls
    plain = to_plain(objective)
    if isinstance(objective, objectives.Matryoshka | objectives.Predicted):
        plain["objective"] = _objective_entry(objective.objective)
    return {cls.__name__ if own else f"{cls.__module__}.{cls.__qualname__}": plain}


def _term(plain: dict[str, Any]) -> dict[str, Any]:
    """A term's fields from what was saved; an objective that is not multicl's own becomes `Foreign`."""
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


def load_weights(towers: Towers, path: Path) -> None:
    """Load a file's weights into towers; 16-bit weights stay 16-bit, so that they embed as when they were saved.

    Raises:
        InputError: the file cannot be read, or a tensor is missing, unexpected or of another shape.
    """
    own = towers.state_dict()
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    # safetensors stores tensors that share memory under one name: a missing name may be an alias of another
    kept = {own[name].data_ptr() for name in found if name in own}
    wrong = [n for n, t in found.items() if n not in own or own[n].shape != t.shape]
    wrong += [n for n, t in own.items() if n not in found and t.numel() and t.data_ptr() not in kept]
    used = tuple(f"objectives.{t.name}." for t in towers.targets if not isinstance(t.objective, Foreign))
    wrong = sorted(n for n in wrong if not n.startswith("objectives.") or n.startswith(used))
    if wrong:
        more = f" and {len(wrong) - 1} more" if wrong[1:] else ""
        raise InputError(f"{path} does not fit its config.json: {wrong[0]!r}{more}")
    for name, kept_here in chain(towers.named_parameters(remove_duplicate=False), towers.named_buffers()):
        if name in found and found[name].dtype in NARROW:
            kept_here.data = kept_here.data.to(found[name].dtype)
    towers.load_state_dict({n: t for n, t in found.items() if n in own and t.shape == own[n].shape}, strict=False)


def folder_of(name: str | Path) -> Path:
    """The folder of a model or of a run's model; otherwise the hub's model of that name, downloaded.

    Raises:
        InputError: there is no such model, or the folder holds runs of several seeds.
    """
    folder = Path(name).expanduser()
    if (folder / "model" / "config.json").is_file():
        return folder / "model"
    if (folder / "recipe.yaml").is_file():
        raise InputError(
            f"the run {folder} holds no model yet: finish it with --run {quote(str(folder))} --resume auto"
        )
    if folder.exists():
        check_one(folder)
        return folder
    if folder.is_absolute() or str(name).count("/") != 1 or str(name).startswith("."):
        raise InputError(f"no such folder: {name}")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(name), allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"]))
    except Exception as error:  # of many types, all of which mean that the hub has no model to give under this name
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(f"{str(name)!r} is neither a folder nor a model on the hub: {reason}") from error


def card(config: Mapping[str, Any], figures: Mapping[str, float], towers: Towers) -> str:
    """The model card (README.md), in the format of the hub."""
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
