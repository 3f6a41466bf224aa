"""A recipe as a run: command line -> settings -> training -> figures, the same for every method."""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, TypeVar

from multicl.adapters import import_file
from multicl.config import flat, parse_arguments, read_yaml, to_plain, write_yaml
from multicl.types import InputError, Modality

if TYPE_CHECKING:
    from multicl.pairs import Term

from multicl.copies import caution_of
from multicl.data import Data
from multicl.distributed import part
from multicl.evaluation.figure import intervals
from multicl.figures import Figures, figures_table, rounded, to_json
from multicl.files import write_whole, writing
from multicl.finished import finished_run
from multicl.lifecycle import read_status
from multicl.model import Model, load
from multicl.optim import Optim
from multicl.recipe_names import name_of, new_folder
from multicl.repeats import averaged, several_seeds
from multicl.settings import Momentum, Train
from multicl.shared import measured
from multicl.signals import EXIT_STOPPED, Stopped, interrupts, readers_may_leave
from multicl.towers import Head
from multicl.trainer import Trainer

R = TypeVar("R", bound="Run")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What every recipe has. A recipe adds one field for each node and objective, `modalities` and `terms`."""

    run: Path | None = None
    """Folder of the run; default: runs/RECIPE-DATE-TIME."""
    resume: Literal["never", "auto"] = "never"
    """auto, or the flag alone: go on from the last checkpoint in the folder of --run, or start where there is none."""
    data: Data = field(default_factory=Data)
    train: Train = field(default_factory=Train)
    optim: Optim = field(default_factory=Optim)
    head: Head = field(default_factory=Head)
    momentum: Momentum = field(default_factory=Momentum)

    space: ClassVar[str | None] = "joint"
    """What the model compares by default: a pair's space, or None for the encoders' features (SimCLR-like recipes)."""

    def modalities(self) -> dict[str, Modality]:
        """Node -> adapter."""
        raise NotImplementedError(f"{type(self).__name__} must define modalities()")

    def terms(self) -> Sequence[Term]:
        """The pairs and targets."""
        raise NotImplementedError(f"{type(self).__name__} must define terms()")

    def rows(self) -> Any:
        """What to train on: Data, or anything that `Trainer(data=...)` takes."""
        return self.data

    def measure(self, model: Model) -> Figures:
        """Figures on held-out data; called before training and after, and every `train.evaluate_every` steps.

        Of several processes the first calls it, and all embed what it asks the model for.
        """
        return {}

    def baseline(self) -> Figures:
        """The same figures from raw inputs, where that makes sense."""
        return {}

    def trainer(self) -> Trainer:
        """The trainer of these settings."""
        return Trainer(
            self.modalities(), self.terms(), self.rows(), train=self.train, optim=self.optim, head=self.head,
            momentum=self.momentum, run=self.run, resume=self.resume == "auto", space=self.space,
            evaluate=self.measure if self.train.evaluate_every else None, config=_settings(self),
        )  # fmt: skip


def execute(recipe: Run) -> dict[str, Any]:
    """Measure, train, measure again; writes recipe.yaml and result.json into the run's folder.

    With `resume`, a run that is finished is measured again, from its saved model.

    Raises:
        Stopped: a signal asked for it, and the run has a folder.

    Returns:
        The trained figures, under "untrained" and "baseline" those beside them, and under "intervals" between which
        two values each lies with 95 % confidence (a bootstrap over held-out rows).
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
        # only now: what cannot be measured leaves no run, and may be tried again
        if folder is not None and not resumed:
            if (folder / "recipe.yaml").exists():
                raise InputError(f"the run folder {folder} was taken meanwhile: give another --run")
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


def launch(recipe: type[R], argv: Sequence[str] | None = None, finish: Any = None, program: str | None = None) -> None:
    """Run a recipe from the command line; the last line printed is `RESULT {json}`.

    A mistake of the user's ends with a message and exit code 2, without a traceback; a run that SIGTERM, SIGINT or
    SIGHUP asked to stop, before its first step and after its last one, too, saves and ends with
    `multicl.signals.EXIT_STOPPED`, 75. Launchers hide codes: a run's status.json says the same. Several seeds,
    `--train.seed 0,1,2`, are a run each, and their mean and deviation (`repeats`).

    Args:
        finish: called with (recipe, result) before the last line, on the main process; may return another result,
            which does not count where there are several seeds: it is called for each.
        program: the command that help names; default: how Python was started.
    """
    settings = None
    try:
        with interrupts():
            seeds, argv = several_seeds(sys.argv[1:] if argv is None else argv)
            settings = parse(recipe, argv, program)
            if settings.run is None and settings.resume == "auto":
                raise InputError("--resume goes on with the run in the folder of --run: give --run DIR, too")
            if settings.run is None:
                settings = replace(settings, run=new_folder(recipe))
            result = _of_seeds(settings, seeds, finish) if seeds else execute(settings)
            if finish is not None and not seeds and is_main():
                result = finish(settings, result) or result
    except InputError as error:
        fail(error)
    except Stopped as stopped:
        saved = f"saved at step {stopped.step}" if stopped.step else "before the first step"
        _say_how_to_go_on(settings, f"{stopped.reason}: {saved}")
        if stopped.together:
            atexit.register(part)
        raise
    except KeyboardInterrupt as asked:
        _say_how_to_go_on(settings, f"{str(asked) or 'SIGINT'}: stopped")
        raise SystemExit(EXIT_STOPPED) from None
    if is_main():
        print("RESULT " + to_json(result), flush=True)
    atexit.register(part)


def _say_how_to_go_on(settings: Run | None, told: str) -> None:
    with readers_may_leave(lambda within: True):
        if settings is not None and is_main():
            print(f"\n{told}; to go on: --run {quote(str(settings.run))} --resume auto", file=sys.stderr, flush=True)


def _of_seeds(settings: Run, seeds: Sequence[int], finish: Any) -> dict[str, Any]:
    """A run for each seed, in RUN/seed-0, ...; RUN/result.json has the means."""
    assert settings.run is not None
    if (settings.run / "recipe.yaml").exists():
        raise InputError(f"{settings.run} is a run of one seed already: give several seeds another --run")
    results = {}
    for seed in seeds:
        folder = settings.run / f"seed-{seed}"
        own = replace(settings, run=folder, train=replace(settings.train, seed=seed))
        results[seed] = execute(own)
        if finish is not None and is_main():
            finish(own, results[seed])
    result = averaged(results)
    if is_main():
        means = {name: result[name] for name in result["deviation"]}
        columns = {"baseline": result["baseline"], "untrained": result["untrained"], "mean": means}
        if table := figures_table({**columns, "deviation": result["deviation"]}):
            print(table)
        with writing(settings.run):
            write_whole(settings.run / "result.json", to_json(result, indent=2) + "\n")
    return result


def is_main() -> bool:
    """Whether this is the first of the run's processes; known from the launcher before they have met."""
    return int(os.environ.get("RANK", "0")) == 0


def fail(error: Exception) -> NoReturn:
    """Say what is wrong, once for all processes, and stop."""
    if is_main():
        print(f"multicl: {error}", file=sys.stderr, flush=True)
    raise SystemExit(2) from error


def parse(recipe: type[R], argv: Sequence[str], program: str | None = None) -> R:
    """The recipe's settings from a command line; `--config recipe.yaml` gives the defaults.

    Epochs that are asked for there count, though the recipe or the file has steps. `program` is the command that
    help and errors name, where it is not how Python was started.

    Raises:
        InputError: an unknown key in the file, or a setting that its class refuses.
        SystemExit: after --help, or a wrong flag; what is wrong, and what is near to it, is printed.
    """
    argv = _resume_alone(argv)
    given = {word.partition("=")[0] for word in argv}
    if "--train.epochs" in given and "--train.steps" not in given:
        argv = [*argv, "--train.steps", "None"]
    header = getattr(inspect.getmodule(recipe), "__doc__", None) or inspect.getdoc(recipe) or ""
    return parse_arguments(
        recipe, argv, header=header.strip(), skip=("recipe", "run"), quiet=not is_main(), program=program
    )


def _resume_alone(argv: Sequence[str]) -> list[str]:
    """The words, where `--resume` without a value is `--resume auto`, as other tools have it.

    Raises:
        InputError: its value is a folder or file, as other tools have it, too.
    """
    words: list[str] = []
    for word, value in pairwise([*argv, "--"]):
        words.append(word)
        if word == "--resume" and value.startswith("-"):
            words.append("auto")
        elif word == "--resume" and Path(value).exists():
            raise InputError(f"--resume takes no folder: give that of the run, as in --run {quote(value)} --resume")
    return words


def recipe_class(name: str) -> type[Run]:
    """The class `Recipe` of one of multicl's recipes, or of a file; "FILE.py:NAME" for a class of another name.

    Raises:
        InputError: there is no such recipe.
    """
    file, is_file, wanted = name.rpartition(".py")  # folders, too, may have it in their names
    if is_file:
        module = import_file(Path(f"{file}.py"))
    else:
        try:
            module = importlib.import_module(f"multicl.recipes.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"multicl.recipes.{name}":
                raise
            raise InputError(f"no recipe is named {name!r}: `multicl recipes` lists them") from None
    wanted = (wanted.removeprefix(":") if is_file else "") or "Recipe"
    found = getattr(module, wanted, None)
    if not (isinstance(found, type) and issubclass(found, Run)):
        raise InputError(f"{name} has no class {wanted}(multicl.Run)")
    return found


def _settings(recipe: Run) -> dict[str, Any]:
    return {"recipe": name_of(type(recipe)), **to_plain(replace(recipe, resume="never"))}


def _record(recipe: Run, folder: Path) -> None:
    write_yaml(folder / "recipe.yaml", _settings(recipe), "Launch again with: python RECIPE.py --config THIS --run NEW")


def _say_changes(recipe: Run, folder: Path) -> None:
    """What a resumed run does otherwise than its recipe.yaml says; that file follows once training has succeeded."""
    before, after = flat(read_yaml(folder / "recipe.yaml")), flat(_settings(recipe))
    for key in after:
        if key != "run" and before.get(key) != after[key]:
            print(f"resumed with another {key}: {before.get(key)} -> {after[key]}", flush=True)
