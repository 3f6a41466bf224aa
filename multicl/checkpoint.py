"""Checkpoints of a run: everything a resumed run needs, without a pickle.

A checkpoint is a folder `step-N` with `state.safetensors` (weights, optimiser) and `state.json` (step, scalars). It is
written beside and renamed, so that a folder of that name is always whole. Randomness and the order of the rows are
functions of the step: they have no state to keep.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from multicl.types import InputError

FORMAT = 1


def save_checkpoint(
    folder: Path,
    step: int,
    towers: nn.Module,
    optimizer: torch.optim.Optimizer,
    extra: Mapping[str, Any],
    keep: int = 2,
    kept: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write `folder/step-N` and remove all but the last `keep`.

    Args:
        extra: more to keep, as JSON. kept: more tensors (momentum towers, queues).
    """
    folder.mkdir(parents=True, exist_ok=True)
    for torn in folder.glob(".step-*"):  # of a run that was killed while it wrote
        shutil.rmtree(torn, ignore_errors=True)
    final, beside = folder / f"step-{step}", folder / f".step-{step}"
    beside.mkdir()
    tensors, scalars = _optimizer_state(towers, optimizer)
    tensors |= {f"towers:{name}": _copy(t) for name, t in towers.state_dict().items()}
    tensors |= {f"kept:{name}": _copy(t) for name, t in (kept or {}).items()}
    save_file(tensors, beside / "state.safetensors")
    state = {**extra, "format": FORMAT, "step": step, "optimizer": type(optimizer).__name__, "scalars": scalars}
    (beside / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
    for path in (*beside.iterdir(), beside):
        _to_disk(path)
    shutil.rmtree(final, ignore_errors=True)
    beside.rename(final)
    _to_disk(folder)
    for _, old in _numbered(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """The checkpoints of a run that can be read, oldest first; a damaged one is named on stderr and passed over."""
    whole = []
    for step, path in _numbered(folder):
        try:
            _read_state(path)
            with safe_open(path / "state.safetensors", "pt"):  # compares the file's length with its header's
                whole.append((step, path))
        except (InputError, OSError, SafetensorError) as error:
            print(f"checkpoint {path} is damaged and passed over: {error}", file=sys.stderr, flush=True)
    return whole


def load_checkpoint(path: Path, towers: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put a checkpoint's state into towers and optimiser, in place; neither is touched where it does not fit.

    Returns:
        What `state.json` holds, `step` among it, and under "kept" the tensors that were given as `kept`.

    Raises:
        InputError: it is not readable, or belongs to another architecture or optimiser.
    """
    state = _read_state(path)
    try:
        tensors = load_file(path / "state.safetensors")
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"checkpoint {path} cannot be read: {error}; remove that folder to go on from an earlier one"
        ) from error
    weights = {name.removeprefix("towers:"): t for name, t in tensors.items() if name.startswith("towers:")}
    mine = towers.state_dict()
    wrong = sorted(name for name in mine.keys() | weights.keys() if _shape(mine, name) != _shape(weights, name))
    if wrong:
        raise InputError(
            f"checkpoint {path} is of another recipe: {wrong[0]!r} is {_shape(weights, wrong[0])} there and "
            f"{_shape(mine, wrong[0])} here ({len(wrong)} differ). Resume with the settings of its recipe.yaml."
        )
    if state["optimizer"] != type(optimizer).__name__:
        raise InputError(
            f"checkpoint {path} was trained with {state['optimizer']}, not {type(optimizer).__name__}: "
            "resume with the settings of its recipe.yaml"
        )
    towers.load_state_dict(weights)
    _load_optimizer(towers, optimizer, tensors, state["scalars"])
    kept = {name.removeprefix("kept:"): t for name, t in tensors.items() if name.startswith("kept:")}
    return {**state, "kept": kept}


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    found = [(re.fullmatch(r"step-(\d+)", p.name), p) for p in folder.glob("step-*")]
    return sorted((int(m[1]), p) for m, p in found if m)


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"checkpoint {path} cannot be read: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise InputError(f"checkpoint {path} is not of format {FORMAT}, which this version of multicl reads")
    return state


def _shape(tensors: dict[str, Tensor], name: str) -> list[int] | None:
    return list(tensors[name].shape) if name in tensors else None


def _copy(t: Tensor) -> Tensor:
    """On the CPU, with memory of its own: safetensors refuses tensors that share it."""
    return t.detach().to("cpu", copy=True).contiguous()


def _optimizer_state(towers: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State by the parameters' names; scalars apart."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for name, p in towers.named_parameters():
        for key, value in optimizer.state.get(p, {}).items():
            if isinstance(value, Tensor):
                tensors[f"optimizer:{name}:{key}"] = _copy(value)
            elif value is not None:
                scalars[f"{name}:{key}"] = value
    return tensors, scalars


def _load_optimizer(
    towers: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], scalars: dict[str, Any]
) -> None:
    by_name = dict(towers.named_parameters())
    values: dict[str, Any] = {k.removeprefix("optimizer:"): t for k, t in tensors.items() if k.startswith("optimizer:")}
    optimizer.state.clear()
    for full, value in {**values, **scalars}.items():
        name, _, key = full.rpartition(":")
        p = by_name[name]
        if isinstance(value, Tensor) and key != "step":  # torch keeps Adam's step on the CPU
            value = value.to(p.device)
        optimizer.state[p][key] = value


def _to_disk(path: Path) -> None:
    """A power cut after the rename must not leave empty files."""
    if os.name == "nt":  # Windows syncs no folder, and no file that is open for reading
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
