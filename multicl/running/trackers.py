"""Accelerate's trackers (TensorBoard, Weights & Biases, Trackio, ...): chosen by name, given the run's settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multicl.types import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator

PROJECT = "multicl"
"""Project name in the trackers."""
_PACKAGES = {"comet_ml": "comet-ml"}  # trackers whose package has another name


def check_trackers(names: Sequence[str], folder: Path | None) -> None:
    """Refuse trackers that Accelerate would silently ignore or fail on.

    Raises:
        InputError: a tracker is unknown or not installed, or it writes files and the run has no folder.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
    from accelerate.utils import LoggerType

    known = {str(name) for name in LoggerType.list()} - {"all"}
    installed = {str(name) for name in get_available_trackers()}
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise InputError(f"train.trackers: there is no {name!r}; Accelerate knows {sorted(LOGGER_TYPE_TO_CLASS)}")
        if name in known - installed:
            raise InputError(
                f"train.trackers: {name!r} is not installed: pip install {_PACKAGES.get(name, name)}, or leave it out"
            )
        if LOGGER_TYPE_TO_CLASS[name].requires_logging_directory and folder is None:
            raise InputError(f"train.trackers: {name!r} writes files, and the run has no folder: give run=FOLDER")


def start_trackers(accelerator: Accelerator, folder: Path | None, config: Mapping[str, Any], start: int) -> None:
    """Begin a run in every tracker of the accelerator; all ranks call it.

    Args:
        folder: the run's, for its name. config: its settings, possibly nested. start: the step to continue from;
            TensorBoard drops what an interrupted run wrote beyond it.
    """
    options: dict[str, dict[str, Any]] = {"tensorboard": {"purge_step": start + 1 if start else None}}
    if folder is not None:
        options |= {"wandb": {"name": folder.name, "dir": str(folder)}, "trackio": {"name": folder.name}}
    accelerator.init_trackers(PROJECT, config=flat(config), init_kwargs=options)


def flat(settings: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Flatten settings: {"train": {"lr": 0.1}} -> {"train.lr": 0.1}. None is left out; lists become strings."""
    values: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{where}{key}.")
        elif value is not None:
            values[f"{where}{key}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return values
