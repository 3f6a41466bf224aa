"""A run's folder from its first step to its last: claimed, saved, restored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multicl.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from multicl.settings import Train
from multicl.types import InputError

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from torch import Tensor, nn


class Lifecycle:
    """Where a run is kept, if anywhere.

    Args:
        folder: of the run, made where it is not there; None: nothing is kept.
        resume: go on from the folder's last checkpoint, if there is one.

    Raises:
        InputError: the folder holds something, and is not resumed.
    """

    def __init__(self, folder: Path | None, resume: bool, train: Train, accelerator: Accelerator) -> None:
        self.folder, self.resume, self.train, self.accelerator = folder, resume, train, accelerator
        if folder is None:
            return
        taken = folder.exists() and any(folder.iterdir())
        if taken and not resume:
            raise InputError(f"the run folder {folder} exists: give another --run, or --resume auto to go on with it")
        accelerator.wait_for_everyone()
        folder.mkdir(parents=True, exist_ok=True)

    def due(self, step: int, total: int) -> bool:
        """Whether a checkpoint follows this step."""
        every = self.train.checkpoint_every
        return bool(self.folder and every and step % every == 0 and step < total)

    def save(
        self,
        step: int,
        towers: nn.Module,
        optimizer: torch.optim.Optimizer,
        extra: Mapping[str, Any],
        kept: Mapping[str, Tensor] | None = None,
    ) -> None:
        """A checkpoint of what is so after `step` steps; all ranks call it, the first writes.

        Args:
            extra: scalars to keep. kept: more tensors.
        """
        if self.folder and self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            state = {
                "seed": self.train.seed, "batch_size": self.train.batch_size,
                "scaler": scaler.state_dict() if scaler is not None else None, **extra,
            }  # fmt: skip
            save_checkpoint(self.folder / "checkpoints", step, towers, optimizer, state, self.train.keep, kept)
        self.accelerator.wait_for_everyone()

    def restore(self, towers: nn.Module, optimizer: torch.optim.Optimizer, total: int) -> dict[str, Any]:
        """The last checkpoint's state, put into towers and optimiser.

        Returns:
            What was saved with it: "step", the scalars of `extra`, and "kept"; empty where there is no checkpoint.

        Raises:
            InputError: it is of another seed, batch size, architecture or optimiser, or beyond `total`.
        """
        found = checkpoints(self.folder / "checkpoints") if self.folder and self.resume else []
        if not found:
            return {}
        path = found[-1][1]
        state = load_checkpoint(path, towers, optimizer)
        for name in ("seed", "batch_size"):  # they decide the order of the rows
            if state[name] != getattr(self.train, name):
                raise InputError(
                    f"{path} was trained with train.{name} {state[name]}, not {getattr(self.train, name)}: "
                    "resume with that, or give another --run"
                )
        if state["step"] > total:
            raise InputError(f"{path} is beyond the {total} steps asked for: raise train.steps or epochs")
        if self.accelerator.scaler is not None and state.get("scaler"):
            self.accelerator.scaler.load_state_dict(state["scaler"])
        return state
