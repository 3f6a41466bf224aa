"""`multicl compare RUN RUN ...`: figures side by side, and the settings in which the recipes differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from multicl.config import flat, read_yaml
from multicl.figures import figures_table, to_json
from multicl.repeats import no_run, runs_of
from multicl.running.finished import lacks_figures
from multicl.types import InputError


def compare(runs: Sequence[Path]) -> dict[str, Any]:
    """Print a table of figures, the settings in which recipes differ, and a last line `RESULT {json}`.

    Nothing is recomputed. Figures whose 95 % intervals do not overlap those of the first run are listed. A folder of
    several seeds counts as one run: its figures are means, with their deviations beside them.

    Returns:
        {"figures": {run: {...}}, "differences": {setting: {run: value}}}

    Raises:
        InputError: fewer than two runs, or a folder that holds no finished run.
    """
    if len(set(runs)) < 2:
        raise InputError("compare takes two runs or more")
    results = {str(run): _result(run) for run in runs}
    figures = {run: _figures(result) for run, result in results.items()}
    settings = {str(run): _settings(run) for run in runs}
    differences = {
        key: values
        for key in dict.fromkeys(key for plain in settings.values() for key in plain)
        if key != "run" and _differ((values := {run: plain.get(key) for run, plain in settings.items()}).values())
    }
    print(figures_table(_columns(figures, results)))
    first, *others = results
    for run in others:
        if apart := _apart(results[first], results[run]):
            print(f"{run} differs from {first} beyond their intervals: {', '.join(apart)}")
    print("\nwhere the recipes differ:" if differences else "\nthe recipes are the same")
    print(*_lines(differences, settings), sep="\n", end="\n" if differences else "")
    found = {"figures": figures, "differences": differences}
    print("RESULT " + to_json(found), flush=True)
    return found


def _lines(differences: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line per setting; a node that some runs lack takes a single line, which shows the encoder of the others."""
    parts = {run: {key.partition(".")[0] for key in plain} for run, plain in settings.items()}
    lines: dict[str, str] = {}
    for key, values in differences.items():
        part, dot, _ = key.partition(".")
        if dot and not all(part in of for of in parts.values()):
            key, there = part, f"{part}.encoder"
            values = {run: s.get(there, "there") if part in parts[run] else None for run, s in settings.items()}
        lines[key] = f"  {key}: " + " | ".join("-" if v is None else str(v) for v in values.values())
    return list(lines.values())


def _columns(figures: Mapping[str, dict[str, float]], results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    columns, names = {}, [Path(run).name for run in figures]
    for run, found in figures.items():
        columns[run] = found
        if "deviation" in results[run]:
            name = Path(run).name
            columns[f"+- {name if names.count(name) == 1 else run}"] = results[run]["deviation"]
    return columns


def _settings(run: Path) -> dict[str, Any]:
    first, *more = each = runs_of(run)
    plain = flat(read_yaml(first / "recipe.yaml"))
    settings = {key: value for key, value in plain.items() if value != {}}  # an empty dict: the same as no entries
    return {**settings, "train.seed": [int(of.name.removeprefix("seed-")) for of in each]} if more else settings


def _result(run: Path) -> dict[str, Any]:
    if not (runs_of(run)[0] / "recipe.yaml").is_file():
        raise InputError(no_run(run))
    if why := lacks_figures(run):
        raise InputError(why)
    return dict(json.loads((run / "result.json").read_text(encoding="utf-8")))


def _figures(result: Mapping[str, Any]) -> dict[str, float]:
    """The trained figures, steps and seconds."""
    return {name: value for name, value in result.items() if isinstance(value, int | float)}


def _apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of the figures whose intervals do not overlap."""
    a, b = one.get("intervals", {}), other.get("intervals", {})
    return [name for name in a if name in b and (a[name][1] < b[name][0] or b[name][1] < a[name][0])]


def _differ(values: Any) -> bool:
    first, *others = values
    return any(value != first for value in others)  # 32 equals 32.0: flags and files may differ in that
