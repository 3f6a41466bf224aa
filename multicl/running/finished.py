"""Whether a resumed run has nothing left to do, and whether a run has the figures of its last step."""

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
    """The folder of a resumed run if it has nothing left to do; None otherwise.

    That is, it has taken its last step or its patience has run out, and all is saved.

    Raises:
        InputError: it has trained for more steps than asked for, or these settings give another model or seed, so that
            the untrained figures would belong to another model.
    """
    run = trainer.run
    if run is None or not trainer.lifecycle.resume or (result := _result(run)) is None:
        return None
    whole = checkpoints(run / "checkpoints")
    step = whole[-1][0] if whole else 0
    if step > trainer.total:
        raise InputError(f"the run {run} has trained for {step} steps already, more than the {trainer.total} asked for")
    if step != result.get("steps"):
        return None  # the result is of an earlier end; the run was extended, then killed before it saved its model
    if not whole:
        return None
    path, state = whole[-1][1], read_state(whole[-1][1])
    if step != trainer.total:
        if read_status(run).get("state") != "finished":
            return None
        told = trainer.validation.restore(state)
        if not trainer.validation.over:  # under the current setting of patience
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
    """Why a run, or a folder of several seeds, has no figures, and how to get them; None if it has them.

    A run that was extended and then killed in its last evaluation has figures, but only those of its earlier end.
    """
    way_out = f"finish it with --run {quote(str(run))} --resume auto"
    if (result := _result(run)) is None:
        return f"{run} has no figures yet: {way_out}"
    status, steps = read_status(run), result.get("steps")
    step = status.get("step")
    if status.get("state") != "finished" and step is not None and step == status.get("total") and step != steps:
        return f"{run} has figures of step {steps}, but not yet of its last step, {step}: {way_out}"
    return None


def _result(run: Path) -> dict[str, Any] | None:
    """The contents of result.json; None if it is missing or unreadable."""
    try:
        result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) else None
