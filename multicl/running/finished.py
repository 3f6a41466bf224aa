"""Whether a run that is resumed has nothing left to do, and whether a run has the figures of its last step."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from multicl.running.checkpoint import check_fits, checkpoints, read_state
from multicl.running.lifecycle import read_status
from multicl.types import InputError

if TYPE_CHECKING:
    from multicl.trainer import Trainer


def finished_run(trainer: Trainer) -> Path | None:
    """The folder of a resumed run that has done its last step, or whose patience is at its end, and saved all.

    Raises:
        InputError: it has trained for longer, or its model is not what these settings would train: the untrained
            figures would be another model's.
    """
    run = trainer.run
    if run is None or not trainer.lifecycle.resume or (result := _result(run)) is None:
        return None
    whole = checkpoints(run / "checkpoints")
    step = whole[-1][0] if whole else 0
    if step > trainer.total:
        raise InputError(f"the run {run} has trained for {step} steps already, more than the {trainer.total} asked for")
    if step != result.get("steps"):
        return None  # it is of fewer steps, and the run that went on from there was killed before its model was saved
    if not whole:
        return None
    path, state = whole[-1][1], read_state(whole[-1][1])
    if step != trainer.total:
        if read_status(run).get("state") != "finished":
            return None
        told = trainer.validation.restore(state)
        if not trainer.validation.over:  # by the patience that is given now
            return None
        for line in told:
            trainer.accelerator.print(line)
    check_fits(path, trainer.towers)
    if state["seed"] != trainer.train.seed:
        raise InputError(
            f"{path} was trained with train.seed {state['seed']}, not {trainer.train.seed}: resume with that, or give "
            "another --run"
        )
    return run


def lacks_figures(run: Path) -> str | None:
    """Why a run, or a folder of several seeds, has no figures, and what brings them; None where it has.

    A run that went on for longer, and was killed in its last evaluation, still has those of its first end.
    """
    way_out = f"finish it with --run {quote(str(run))} --resume auto"
    if (result := _result(run)) is None:
        return f"{run} has no figures yet: {way_out}"
    status, steps = read_status(run), result.get("steps")
    step = status.get("step")
    if status.get("state") != "finished" and step is not None and step == status.get("total") and step != steps:
        return f"{run} has no figures yet of its {step} steps, only of {steps}: {way_out}"
    return None


def _result(run: Path) -> dict[str, Any] | None:
    """What result.json says; None where there is none that can be read."""
    try:
        result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) else None
