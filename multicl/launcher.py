"""A recipe's command line: reads settings, launches the run, and reports its end to people, scripts and launchers."""

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

    A user's mistake ends with a message and exit code 2, without a traceback. A run that SIGTERM, SIGINT or SIGHUP
    stops, even before its first step or after its last, saves and exits with `multicl.signals.EXIT_STOPPED`, 75. Some
    launchers hide exit codes: status.json says the same. Several seeds, `--train.seed 0,1,2`, give a run each, and the
    mean and deviation of their figures (`repeats`).

    Args:
        finish: called with (recipe, result) on the main process, before the last line. It may return another result to
            print. With several seeds it is called for each, and what it returns is ignored.
        program: the command that help shows; default: how Python was started.
    """
    settings = None
    print_anything()
    try:
        with interrupts():
            seeds, argv = several_seeds(sys.argv[1:] if argv is None else argv)
            settings = parse(recipe, argv, program)
            if settings.run is None and settings.resume == "auto":
                raise InputError("--resume needs the folder of the run to continue: add --run DIR")
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
            print(f"\n{told}; to continue: --run {quote(str(settings.run))} --resume auto", file=sys.stderr, flush=True)


def _of_seeds(settings: Run, seeds: Sequence[int], finish: Any) -> dict[str, Any]:
    """Run each seed in RUN/seed-0, ...; RUN/result.json gets the means."""
    assert settings.run is not None
    if (settings.run / "recipe.yaml").exists():
        raise InputError(f"{settings.run} holds a run of a single seed: give another --run for several seeds")
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
    """Whether this is the run's main process; from the launcher's variables, so known before the group exists."""
    return int(os.environ.get("RANK", "0")) == 0


def fail(error: Exception) -> NoReturn:
    """Print the error, once for all processes, and exit with code 2."""
    if is_main():
        print(f"multicl: {error}", file=sys.stderr, flush=True)
    raise SystemExit(2) from error


def parse(recipe: type[R], argv: Sequence[str], program: str | None = None) -> R:
    """The recipe's settings from a command line; `--config recipe.yaml` gives the defaults.

    `--train.epochs` overrides steps that the recipe or the file sets. `program` is the command that help and errors
    show; default: how Python was started.

    Raises:
        InputError: the file has an unknown key, or a settings class refuses a value.
        SystemExit: after --help, or after a wrong flag, for which similar flags are printed.
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
    """The words, with `--resume` without a value replaced by `--resume auto`, since other tools have it so.

    Raises:
        InputError: its value is a folder or file, as other tools accept.
    """
    words: list[str] = []
    for word, value in pairwise([*argv, "--"]):
        words.append(word)
        if word == "--resume" and value.startswith("-"):
            words.append("auto")
        elif word == "--resume" and Path(value).exists():
            raise InputError(
                f"--resume takes no folder: name the folder with --run, as in --run {quote(value)} --resume"
            )
    return words


def recipe_class(name: str) -> type[Run]:
    """The class `Recipe` of a shipped recipe or of a file; "FILE.py:NAME" for a class of another name.

    Raises:
        InputError: there is no such recipe.
    """
    file, is_file, wanted = name.rpartition(".py")  # folder names may contain it as well
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
