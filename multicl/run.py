"""A recipe as a run: figures before training, training, figures after; the same for every method."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from multicl.config import flat, read_yaml, to_plain, write_yaml
from multicl.types import InputError, Modality

if TYPE_CHECKING:
    from multicl.graph import Term

from multicl.copies import caution_of
from multicl.data.loading import Data
from multicl.evaluation.figure import intervals
from multicl.figures import Figures, figures_table, rounded, to_json
from multicl.files import write_whole, writing
from multicl.model import Model, load
from multicl.recipe_names import name_of
from multicl.running.finished import finished_run
from multicl.running.lifecycle import read_status
from multicl.running.shared import measured
from multicl.settings import Momentum, Train
from multicl.towers import Head
from multicl.trainer import Trainer
from multicl.training.optim import Optim


@dataclass(frozen=True, kw_only=True)
class Run:
    """Base class of recipes. A recipe adds a field for each node and objective, and defines `modalities`, `terms`."""

    run: Path | None = None
    """Folder of the run; default: runs/RECIPE-DATE-TIME."""
    resume: Literal["never", "auto"] = "never"
    """auto, or the flag alone: continue from the last checkpoint in the folder of --run, or start if there is none."""
    data: Data = field(default_factory=Data)
    train: Train = field(default_factory=Train)
    optim: Optim = field(default_factory=Optim)
    head: Head = field(default_factory=Head)
    momentum: Momentum = field(default_factory=Momentum)

    space: ClassVar[str | None] = "joint"
    """Default space of the model: a pair's space, or None for the encoders' features (as in SimCLR-like recipes)."""

    def modalities(self) -> dict[str, Modality]:
        """Node -> adapter."""
        raise NotImplementedError(f"{type(self).__name__} must define modalities()")

    def terms(self) -> Sequence[Term]:
        """The pairs and targets."""
        raise NotImplementedError(f"{type(self).__name__} must define terms()")

    def rows(self) -> Any:
        """The training data: Data, or anything else that `Trainer(data=...)` takes."""
        return self.data

    def measure(self, model: Model) -> Figures:
        """Figures on held-out data; called before and after training, and every `train.evaluate_every` steps.

        With several processes, only the main one calls it, and all of them embed what it asks the model for.
        """
        return {}

    def baseline(self) -> Figures:
        """The same figures computed from raw inputs, where that makes sense."""
        return {}

    def trainer(self) -> Trainer:
        """The trainer for these settings."""
        return Trainer(
            self.modalities(), self.terms(), self.rows(), train=self.train, optim=self.optim, head=self.head,
            momentum=self.momentum, run=self.run, resume=self.resume == "auto", space=self.space,
            evaluate=self.measure if self.train.evaluate_every else None, config=_settings(self),
        )  # fmt: skip


def execute(recipe: Run) -> dict[str, Any]:
    """Measure, train, measure again; writes recipe.yaml and result.json into the run's folder.

    With `resume`, a finished run is only measured again, from its saved model.

    Raises:
        Stopped: a signal asked the run to stop, and it has a folder.

    Returns:
        The trained figures, those to compare with under "untrained" and "baseline", and under "intervals" the 95 %
        confidence interval of each (a bootstrap over held-out rows).
    """
    trainer = recipe.trainer()
    finished = finished_run(trainer)
    try:
        return _executed(recipe, trainer, finished)
    except KeyboardInterrupt as asked:
        if recipe.run is None or finished:
            raise
        raise trainer.lifecycle.interrupted(trainer.total, str(asked) or "SIGINT") from None


def _executed(recipe: Run, trainer: Trainer, finished: Path | None) -> dict[str, Any]:
    accelerator, folder = trainer.accelerator, recipe.run
    resumed = folder is not None and (folder / "recipe.yaml").exists()
    baseline, untrained, trained, spans = Figures(), Figures(), Figures(), dict[str, list[float]]()
    if accelerator.is_main_process:
        if folder is not None and resumed:
            _say_changes(recipe, folder)
        baseline = rounded(recipe.baseline())
    trainer.towers.to(accelerator.device)
    untrained = rounded(measured(recipe.measure, trainer.model, trainer.world))
    if accelerator.is_main_process:
        if recipe.train.best is not None and recipe.train.best not in untrained:
            raise InputError(f"train.best is {recipe.train.best!r}, but the figures are {sorted(untrained)}")
        # only now, so that a recipe whose measuring fails leaves no run behind and can be tried again
        if folder is not None and not resumed:
            if (folder / "recipe.yaml").exists():
                raise InputError(f"another process has begun a run in {folder} in the meantime: give another --run")
            with writing(folder):
                _record(recipe, folder)
        if untrained and not finished:
            if said := caution_of(trainer, recipe.data):
                print(said)
            print(figures_table({"before the first step": untrained}), flush=True)
    accelerator.wait_for_everyone()
    device = str(accelerator.device)
    if finished:
        model = load(finished, modalities=recipe.modalities(), device=device)
        trainer.lifecycle.step = read_status(finished).get("step", trainer.total)
        accelerator.print(f"{finished} was finished at step {trainer.lifecycle.step}: it is only measured again")
    else:
        trainer.lifecycle.figures_follow = True
        model = trainer.fit()
    with nullcontext() if finished else trainer.lifecycle.measuring(trainer.total):
        found = measured(recipe.measure, model, trainer.world)
        if accelerator.is_main_process:
            trained, spans = rounded(found), intervals(found)
            if folder is not None and not finished:
                with writing(folder):
                    _record(recipe, folder)
                    model.describe(folder / "model", trained)
        accelerator.wait_for_everyone()
        result = {
            "recipe": name_of(type(recipe)), **trained, "untrained": untrained, "baseline": baseline,
            "intervals": spans, "steps": trainer.lifecycle.step, "skipped": len(trainer.skipped),
            "seconds": round(trainer.lifecycle.seconds, 1),
        }  # fmt: skip
        if finished:
            before = json.loads((finished / "result.json").read_text(encoding="utf-8"))
            result |= {name: before[name] for name in ("skipped", "seconds") if name in before}
        if accelerator.is_main_process:
            columns = {"baseline": baseline, "untrained": untrained, "trained": trained}
            if trainer.validation.best_step is not None and trainer.validation.last:
                columns = {"baseline": baseline, "base": untrained, "last": trainer.validation.last, "best": trained}
            if table := figures_table(columns, spans):
                print(table)
            if folder is not None:
                if not finished:
                    with writing(folder):
                        write_whole(folder / "result.json", to_json(result, indent=2) + "\n")
                print(f"model and figures: {folder}")
    if finished:
        trainer.lifecycle.measured_again()
    return result


def _settings(recipe: Run) -> dict[str, Any]:
    return {"recipe": name_of(type(recipe)), **to_plain(replace(recipe, resume="never"))}


def _record(recipe: Run, folder: Path) -> None:
    write_yaml(folder / "recipe.yaml", _settings(recipe), "Launch again with: python RECIPE.py --config THIS --run NEW")


def _say_changes(recipe: Run, folder: Path) -> None:
    """Print where a resumed run differs from its recipe.yaml; the file is updated once training has succeeded."""
    before, after = flat(read_yaml(folder / "recipe.yaml")), flat(_settings(recipe))
    for key in after:
        if key != "run" and before.get(key) != after[key]:
            print(f"resumed with a different {key}: {before.get(key)} -> {after[key]}", flush=True)
