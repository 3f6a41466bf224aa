"""Several seeds of one recipe, `--train.seed 0,1,2`: the mean and standard deviation of their figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from multicl.evaluation.figure import spread
from multicl.types import InputError

FLAG = "--train.seed"
COUNTS = ("steps", "skipped", "seconds")
"""Numbers in a result that are not figures."""


def several_seeds(argv: Sequence[str]) -> tuple[list[int], list[str]]:
    """(the seeds, the command line without them); no seeds if the flag is missing or has a single number.

    Raises:
        InputError: the list has an item that is not a whole number, or has a number twice.
    """
    rest = list(argv)
    for at, word in enumerate(argv):
        name, given, value = word.partition("=")
        if name != FLAG:
            continue
        last = at + 1 if given else at + 2
        value = value if given else "".join(argv[at + 1 : last])
        if "," not in value:
            continue
        parts = [part.strip() for part in value.split(",")]
        if not all(part.isdecimal() for part in parts) or len({int(part) for part in parts}) < len(parts):
            raise InputError(
                f"{FLAG} {value}: give a whole number, 0 or more, or several different ones, such as 0,1,2"
            )
        del rest[at:last]
        return [int(part) for part in parts], rest
    return [], rest


def averaged(results: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Combine the results of several seeds into one.

    Args:
        results: seed -> what `execute` returned.

    Returns:
        The means of the trained figures, under "deviation" their sample standard deviations, means under "untrained"
        and "baseline", "steps" of each run, total "skipped" rows and "seconds", and "seeds".
    """
    runs = list(results.values())
    trained = ({k: v for k, v in run.items() if isinstance(v, int | float) and k not in COUNTS} for run in runs)
    over = spread(list(trained))
    before, raw = (
        {name: of.mean for name, of in spread([run[side] for run in runs]).items()}
        for side in ("untrained", "baseline")
    )
    return {
        "recipe": runs[0]["recipe"], **{name: of.mean for name, of in over.items()},
        "deviation": {name: of.deviation for name, of in over.items()}, "untrained": before, "baseline": raw,
        "steps": runs[0]["steps"], "skipped": sum(run["skipped"] for run in runs),
        "seconds": round(sum(run["seconds"] for run in runs), 1), "seeds": list(results),
    }  # fmt: skip


def runs_of(folder: Path) -> list[Path]:
    """The runs in a folder of several seeds, ordered by seed; for any other folder, the folder itself."""
    if (folder / "recipe.yaml").exists():
        return [folder]
    numbers = (path.name.removeprefix("seed-") for path in folder.glob("seed-*"))
    return [folder / f"seed-{n}" for n in sorted(map(int, filter(str.isdecimal, numbers)))] or [folder]


def check_one(folder: Path) -> None:
    """Refuse a folder of several seeds, for commands that need a single run.

    Raises:
        InputError: the folder holds runs of several seeds.
    """
    first, *_ = runs_of(folder)
    if first != folder:
        raise InputError(f"{folder} holds runs of several seeds: name one of them, such as {first}")


def no_run(folder: Path) -> str:
    """The message for a folder that is not a run; it names the runs inside, if any, latest first."""
    if not folder.exists():
        return f"{folder} is not a run: there is no such folder"
    if (folder / "model.safetensors").exists():
        return f"{folder} is not a run but only a model, for embed, index and export: it has no recipe.yaml"
    inside = sorted(folder.glob("*/recipe.yaml"), key=lambda file: file.stat().st_mtime, reverse=True)
    names = ", ".join(str(file.parent) for file in inside[:3]) + (", ..." if inside[3:] else "")
    return f"{folder} is not a run: it has no recipe.yaml" + (f"; name one of the runs in it: {names}" if names else "")
