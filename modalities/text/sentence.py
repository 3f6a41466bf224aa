"""Reads and writes folders of sentence-transformers without that library: pooling, prompt and head."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from multicl.modalities.text import hub
from multicl.types import InputError

log = logging.getLogger(__name__)

MODULES, SETTINGS = "modules.json", "config_sentence_transformers.json"
POOLINGS = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
"""Their name of a pooling -> ours; their other poolings are not supported."""
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Flag -> their name: files of versions before 5, and ours, have a flag for each pooling."""
HARMLESS = ("Normalize", "Dropout")
"""Modules after the pooling that change no cosine."""


def pooling_of(name: str) -> str | None:
    """The pooling that an encoder's files name; None if they are not of sentence-transformers.

    Raises:
        InputError: the files are damaged, or name a pooling or a structure that is not supported.
    """
    try:
        return _pooling_of(name)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"text encoder {name!r}: its {MODULES} is damaged: {error!r}") from error


def _pooling_of(name: str) -> str | None:
    modules = hub.read_json(name, MODULES)
    if modules is None:
        return None
    parts = [(part["type"].rpartition(".")[2], part["path"]) for part in modules]
    kinds = [kind for kind, _ in parts]
    if kinds[:2] != ["Transformer", "Pooling"]:
        raise InputError(
            f"text encoder {name!r} is made of {kinds}, not of a Transformer and a Pooling: give the folder of its "
            "transformer, and pooling="
        )
    if parts[0][1]:
        raise InputError(
            f"the transformer of text encoder {name!r} is in its folder {parts[0][1]!r}: give that folder, and pooling="
        )
    settings = hub.read_json(name, f"{parts[1][1]}/config.json") or {}
    modes = settings.get("pooling_mode") or [mode for flag, mode in FLAGS.items() if settings.get(flag)] or "mean"
    modes = [modes] if isinstance(modes, str) else list(modes)
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise InputError(
            f"text encoder {name!r} pools by {' and '.join(modes)}, which is not supported: give pooling= one of "
            "those that are"
        )
    if left := [kind for kind in kinds[2:] if kind not in HARMLESS]:
        log.warning("text encoder %r: the modules after its pooling are left out: %s", name, ", ".join(left))
    return POOLINGS[modes[0]]


def prompt_of(name: str) -> str:
    """The prompt that an encoder's files put before every text; "" if there is none."""
    settings = hub.read_json(name, SETTINGS) or {}
    prompts, default = settings.get("prompts") or {}, settings.get("default_prompt_name")
    return str(prompts.get(default) or "") if default else ""


def copy_files(name: str, folder: Path) -> None:
    """Copy the files that `pooling_of` reads, if there are any, to another folder."""
    modules = hub.read_json(name, MODULES)
    if modules is None:
        return
    _write(folder / MODULES, modules[:2])
    place = modules[1]["path"]
    _write(folder / place / "config.json", hub.read_json(name, f"{place}/config.json") or {})


def write_files(folder: Path, pooling: str, width: int, limit: int, head: Sequence[nn.Module], prompt: str) -> None:
    """Turn a folder with a transformer and its tokenizer into one of sentence-transformers, version 2 or newer.

    Args:
        pooling: our name of it. width: of the features. limit: tokens after which texts are cut.
        head: linear layers and activations after the pooling; a normalisation to unit vectors follows.
        prompt: put before every text.

    Raises:
        InputError: a pooling or a layer that sentence-transformers does not have.
    """
    theirs = {ours: name for name, ours in POOLINGS.items()}
    if pooling not in theirs:
        raise InputError(f"sentence-transformers has no pooling {pooling!r}: train with one of {sorted(theirs)}")
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
    flags = {flag: mode == theirs[pooling] for flag, mode in FLAGS.items()}
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width, **flags})
    for linear, activation in _dense(head):
        place = f"{len(modules)}_Dense"
        modules.append(("Dense", place))
        kind = type(activation)
        _write(
            folder / place / "config.json",
            {
                "in_features": linear.in_features,
                "out_features": linear.out_features,
                "bias": linear.bias is not None,
                "activation_function": f"{kind.__module__}.{kind.__qualname__}",
            },
        )
        weights = {f"linear.{key}": tensor.contiguous() for key, tensor in linear.state_dict().items()}
        save_file(weights, folder / place / "model.safetensors", metadata={"format": "pt"})
    modules.append(("Normalize", f"{len(modules)}_Normalize"))
    (folder / modules[-1][1]).mkdir()
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(modules)
    ]
    _write(folder / MODULES, entries)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": limit, "do_lower_case": False})
    prompts = {"prompts": {"text": prompt} if prompt else {}, "default_prompt_name": "text" if prompt else None}
    _write(folder / SETTINGS, {**prompts, "similarity_fn_name": "cosine"})


def _dense(layers: Sequence[nn.Module]) -> list[tuple[nn.Linear, nn.Module]]:
    """Each linear layer with the activation that follows it, or an Identity."""
    found: list[tuple[nn.Linear, nn.Module]] = []
    for layer in layers:
        if isinstance(layer, nn.Identity):
            continue
        if isinstance(layer, nn.Linear):
            found.append((layer, nn.Identity()))
        elif isinstance(layer, nn.ReLU | nn.Tanh) and found and isinstance(found[-1][1], nn.Identity):
            found[-1] = (found[-1][0], layer)
        else:
            raise InputError(
                f"sentence-transformers has no {type(layer).__name__} in a head: export the encoder's features "
                "(--space features), or train with head.norm none"
            )
    return found


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
