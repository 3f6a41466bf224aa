"""Checkpoints of a run: everything a resumed run needs, without a pickle.

A checkpoint is a folder `step-N` with `state.safetensors` (weights, optimiser) and `state.json` (step, scalars). It is
written beside and renamed, so that a folder of that name is always whole. Randomness and the order of the rows are
functions of the step: they have no state to keep.
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
    """A checkpoint that is not whole, or is none; an earlier one may be."""


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
        extra: more to keep, as JSON. kept: more tensors (momentum towers, queues).
        best: a step whose checkpoint is never removed.

    Raises:
        InputError: it cannot be written, as where the disk is full; earlier checkpoints are as they were.
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
            f"checkpoint {final} cannot be written: {error} ({size / 1e6:.0f} MB wanted, {free / 1e6:.0f} MB free). "
            "Earlier checkpoints are whole: make room, and go on with --resume auto"
        ) from error
    _remove_old(folder, step, keep, best)
    return final


def _remove_old(folder: Path, step: int, keep: int, best: int | None) -> None:
    """All but the last ones up to this step; those beyond it are damaged, or the run would have gone on from there."""
    numbers = [number for number, _ in _numbered(folder)]
    stay = {*[number for number in numbers if number <= step][-keep:], best}
    for number in numbers:
        if number not in stay:
            hidden = folder / f".step-{number}"  # half removed, it would look damaged
            (folder / f"step-{number}").rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what a run left that was killed while it wrote or removed a checkpoint."""
    for torn in folder.glob(".step-*"):
        shutil.rmtree(torn, ignore_errors=True)


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """The checkpoints of a run that can be read, oldest first; a damaged one is named on stderr and passed over."""
    whole = []
    for step, path in _numbered(folder):
        try:
            read_state(path)
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
        Damaged: it is not whole, or holds something else than a checkpoint.
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
    """Compare the shapes of a whole checkpoint's weights with those of towers.

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
            f"checkpoint {path} is of another recipe: {wrong[0]!r} is {there.get(wrong[0])} there and "
            f"{here.get(wrong[0])} here ({len(wrong)} differ). Resume with the settings of its recipe.yaml."
        )


def load_weights(path: Path, towers: nn.Module) -> None:
    """Put a checkpoint's weights alone into the towers.

    Raises:
        Damaged: it is not whole.
    """
    read_state(path)
    towers.load_state_dict(_weights(_read_tensors(path)))


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    found = [(re.fullmatch(r"step-(\d+)", p.name), p) for p in folder.glob("step-*")]
    return sorted((int(m[1]), p) for m, p in found if m)


def read_state(path: Path) -> dict[str, Any]:
    """What a checkpoint's state.json holds.

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
        raise Damaged(f"checkpoint {path} is not what was written: {file.name} has another checksum than state.json")
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
