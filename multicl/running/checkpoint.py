"""Checkpoints of a run: everything that a resumed run needs, without pickle.

A checkpoint is a folder `step-N` with `state.safetensors` (weights, optimiser) and `state.json` (step, scalars). It is
written under another name and then renamed, so that a folder `step-N` is always complete. Random numbers and the order
of the rows are functions of the step, so they have no state to save.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from multicl.files import share, to_disk
from multicl.types import InputError

FORMAT = 2


class Damaged(InputError):
    """A checkpoint is incomplete or damaged, or is not a checkpoint; an earlier one may be intact."""


def save_checkpoint(
    folder: Path,
    step: int,
    towers: nn.Module,
    optimizer: torch.optim.Optimizer,
    extra: Mapping[str, Any],
    keep: int = 2,
    kept: Mapping[str, Tensor] | None = None,
    best: int | None = None,
) -> Path:
    """Write `folder/step-N` and remove all but the last `keep`.

    Args:
        extra: further JSON values to save. kept: further tensors (momentum towers, queues).
        best: a step whose checkpoint is never removed.

    Raises:
        InputError: it cannot be written, e.g. because the disk is full; earlier checkpoints are left untouched.
    """
    final, beside = folder / f"step-{step}", folder / f".step-{step}"
    tensors, scalars = _optimizer_state(towers, optimizer)
    tensors |= {f"towers:{name}": _copy(t) for name, t in towers.state_dict().items()}
    tensors |= {f"kept:{name}": _copy(t) for name, t in (kept or {}).items()}
    state = {**extra, "format": FORMAT, "step": step, "optimizer": type(optimizer).__name__, "scalars": scalars}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        beside.mkdir()
        save_file(tensors, beside / "state.safetensors")
        state["checksum"] = _checksum(beside / "state.safetensors")
        (beside / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
        share(beside, beside / "state.json")
        for path in (*beside.iterdir(), beside):
            to_disk(path)
        shutil.rmtree(final, ignore_errors=True)
        beside.rename(final)
        to_disk(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(beside, ignore_errors=True)
        free = shutil.disk_usage(folder).free if folder.is_dir() else 0
        size = sum(t.nbytes for t in tensors.values())
        raise InputError(
            f"checkpoint {final} cannot be written: {error} ({size / 1e6:.0f} MB needed, {free / 1e6:.0f} MB free). "
            "Earlier checkpoints are intact: free some space, and continue with --resume auto"
        ) from error
    _remove_old(folder, step, keep, best)
    return final


def _remove_old(folder: Path, step: int, keep: int, best: int | None) -> None:
    """Remove all but the best and the last `keep` up to this step. Later ones are damaged, or the run would have
    resumed from them."""
    numbers = [number for number, _ in _numbered(folder)]
    stay = {*[number for number in numbers if number <= step][-keep:], best}
    for number in numbers:
        if number not in stay:
            hidden = folder / f".step-{number}"  # left half removed, it would look damaged
            (folder / f"step-{number}").rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what is left of checkpoints if a run was killed while it wrote or removed one."""
    for torn in folder.glob(".step-*"):
        shutil.rmtree(torn, ignore_errors=True)


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """The readable checkpoints of a run, oldest first; damaged ones are named on stderr and skipped."""
    whole = []
    for step, path in _numbered(folder):
        try:
            read_state(path)
            with safe_open(path / "state.safetensors", "pt"):  # compares the file's length with its header's
                whole.append((step, path))
        except (InputError, OSError, SafetensorError) as error:
            print(f"checkpoint {path} is damaged and skipped: {error}", file=sys.stderr, flush=True)
    return whole


def load_checkpoint(path: Path, towers: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Load a checkpoint into towers and optimiser, in place; if it does not fit, neither is changed.

    Returns:
        The contents of `state.json`, including `step`, and under "kept" the tensors that were saved as `kept`.

    Raises:
        Damaged: it is incomplete or damaged, or is not a checkpoint.
        InputError: it belongs to another architecture or optimiser.
    """
    state, tensors = read_state(path), _read_tensors(path)
    check_fits(path, towers)
    if state["optimizer"] != type(optimizer).__name__:
        raise InputError(
            f"checkpoint {path} was trained with {state['optimizer']}, not {type(optimizer).__name__}: "
            "resume with the settings of its recipe.yaml"
        )
    towers.load_state_dict(_weights(tensors))
    _load_optimizer(towers, optimizer, tensors, state["scalars"])
    kept = {name.removeprefix("kept:"): t for name, t in tensors.items() if name.startswith("kept:")}
    return {**state, "kept": kept}


def check_fits(path: Path, towers: nn.Module) -> None:
    """Compare the shapes of the weights in an intact checkpoint with those of the towers.

    Raises:
        InputError: it belongs to another architecture.
    """
    here = {name: list(t.shape) for name, t in towers.state_dict().items()}
    with safe_open(path / "state.safetensors", "pt") as file:
        names = [name for name in file.keys() if name.startswith("towers:")]  # noqa: SIM118
        there = {name.removeprefix("towers:"): file.get_slice(name).get_shape() for name in names}
    wrong = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    if wrong:
        raise InputError(
            f"checkpoint {path} is from another recipe: {wrong[0]!r} is {there.get(wrong[0])} in the checkpoint "
            f"and {here.get(wrong[0])} in this run ({len(wrong)} differ). Resume with the settings of its recipe.yaml."
        )


def load_weights(path: Path, towers: nn.Module) -> None:
    """Load only the weights of a checkpoint into the towers, in place.

    Raises:
        Damaged: it is incomplete or damaged.
    """
    read_state(path)
    towers.load_state_dict(_weights(_read_tensors(path)))


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    found = [(re.fullmatch(r"step-(\d+)", p.name), p) for p in folder.glob("step-*")]
    return sorted((int(m[1]), p) for m, p in found if m)


def read_state(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint's state.json.

    Raises:
        Damaged: it cannot be read, or is of another format.
    """
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Damaged(f"checkpoint {path} cannot be read: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise Damaged(f"checkpoint {path} is not of format {FORMAT}, which this version of multicl reads")
    return state


def _read_tensors(path: Path) -> dict[str, Tensor]:
    file = path / "state.safetensors"
    try:
        tensors = load_file(file)
        checksum = _checksum(file)
    except (OSError, SafetensorError) as error:
        raise Damaged(f"checkpoint {path} cannot be read: {error}") from error
    if checksum != read_state(path).get("checksum"):
        raise Damaged(
            f"checkpoint {path} has changed since it was written: {file.name} does not match the checksum in state.json"
        )
    return tensors


def _checksum(path: Path) -> int:
    total = 0
    with path.open("rb") as file:
        while part := file.read(1 << 22):
            total = zlib.crc32(part, total)
    return total


def _weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("towers:"): t for name, t in tensors.items() if name.startswith("towers:")}


def _copy(t: Tensor) -> Tensor:
    """A contiguous copy on the CPU; safetensors refuses tensors that share memory."""
    return t.detach().to("cpu", copy=True).contiguous()


def _optimizer_state(towers: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimiser's state by parameter name: (tensors, scalars)."""
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
