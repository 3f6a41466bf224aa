"""A recipe's command line: settings read, the run launched, and how it ended told to people, scripts and launchers."""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from shlex import quote
from typing import Any, NoReturn, TypeVar

from multicl.adapters import import_file
from multicl.config import parse_arguments
from multicl.distributed import part
from multicl.figures import figures_table, to_json
from multicl.files import write_whole, writing
from multicl.recipe_names import new_folder
from multicl.repeats import averaged, several_seeds
from multicl.run import Run, execute
from multicl.signals import EXIT_STOPPED, Stopped, interrupts, readers_may_leave
from multicl.streams import print_anything
from multicl.types import InputError

R = TypeVar("R", bound=Run)


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
    print_anything()
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
        _say_how_to_go_on(settings, stopped.told)
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
