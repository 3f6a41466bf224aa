"""`multicl report RUN`: gathers what a run's page shows from its folder, its model and held-out rows."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from multicl.commands.model import opened
from multicl.commands.report_space import show
from multicl.commands.subject import Subject
from multicl.commands.views import view_sections
from multicl.data.loading import Data
from multicl.data.rows import Rows, open_rows
from multicl.evaluation.figure import intervals
from multicl.figures import rounded
from multicl.files import check_writable
from multicl.launcher import is_main
from multicl.model import load
from multicl.pairs import Pair
from multicl.recipe_names import short_name
from multicl.report.charts import Chart, curves, plotly_source
from multicl.report.gallery import Section
from multicl.report.run_page import Contents, Headline, write_run_page
from multicl.run import Run
from multicl.running.finished import lacks_figures
from multicl.running.lifecycle import read_status
from multicl.types import InputError

PACKAGES = ("multicl", "torch", "transformers", "datasets", "accelerate", "plotly")
MOST_BYTES = 8_000_000


def report(
    run: Path, out: Path | None = None, *, data: str | None = None, test: str | None = None,
    points: int = 2000, label: str | None = None,
) -> Path:  # fmt: skip
    """Write one self-contained page of a run and print its path. With several processes, only the first does the work.

    Args:
        run: a run's folder. out: the HTML file; default: report.html in `run`.
        data, test: data to use instead of the run's, and the held-out split or file; figures are then measured again.
        points: the most points on the map, over all nodes.
        label: column of classes; default: the first of class, category and label that exists.

    Raises:
        InputError: the run is not finished, plotly is not installed, `points` is less than 1, there is no such column,
            or `out` cannot be written.
    """
    if points < 1:
        raise InputError(f"--points must be 1 or more, got {points}")
    path = out or run / "report.html"
    if not is_main():
        return path
    plotly_source()  # fails early without plotly
    recipe, model = opened(run, data, test), load(run)
    check_writable(path, "or give another --out")
    rows, notes = _held_out(recipe)
    figures = _headlines(run, recipe if data or test else None, model)
    if not (data or test) and (why := lacks_figures(run)):
        print(why)
        notes.append(why)
    nodes = Subject(model, rows).nodes()
    kept = max(1, min(len(rows), points // max(1, len(nodes))))
    if kept < len(rows):
        notes.append(f"The map, searches and failures show {kept:,} of {len(rows):,} rows, chosen at random.")
        chosen = np.random.default_rng(0).permutation(len(rows))[:kept]
        rows = rows.take(sorted(int(n) for n in chosen))
    shown = show(Subject(model, rows), label)
    contents = Contents(
        title=_title(recipe), intro=_intro(recipe, run), headlines=figures, items=shown.items,
        searches=shown.searches, failures=shown.failures, views=_views(recipe, notes),
        charts={"space": shown.charts, "training": _curves(run)}, notes=[*notes, *shown.notes],
        recipe=(run / "recipe.yaml").read_text(encoding="utf-8"), environment=_environment(run, model.space),
        credits=shown.credits,
    )  # fmt: skip
    write_run_page(path, contents)
    if path.stat().st_size > MOST_BYTES:
        print(f"{path} has {path.stat().st_size / 1e6:.1f} MB: give fewer --points for a smaller page")
    print(f"open {path.resolve()}")
    return path


def _held_out(recipe: Run) -> tuple[Rows, list[str]]:
    given = recipe.rows()
    if not isinstance(given, Data):
        return open_rows(given), ["The recipe makes its own rows: those shown are training rows."]
    try:
        rows = given.open(recipe.data.test)
    except InputError:
        return given.open(), ["There is no held-out split: the rows shown are training rows."]
    if rows.streaming:
        raise InputError(f"{rows.label} is a stream, which a report cannot choose from: leave --data.streaming out")
    return rows, []


def _title(recipe: Run) -> str:
    return f"{short_name(type(recipe))}: {', '.join(recipe.modalities())}"


def _intro(recipe: Run, run: Path) -> list[str]:
    terms = [f"{t.a} with {t.b}" if isinstance(t, Pair) else f"{t.node} to {t.column}" for t in recipe.terms()]
    result = _read(run / "result.json")
    steps = result.get("steps") or read_status(run).get("step")
    lines = [f"Trained to bring together {' and '.join(dict.fromkeys(terms))}."]
    if steps:
        took = f" in {_time(result['seconds'])}, with evaluation" if result.get("seconds") else ""
        lines.append(f"{steps:,} steps of {recipe.train.batch_size:,} rows{took}.")
    return [" ".join(lines)]


def _time(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _headlines(run: Path, anew: Run | None, model: Any) -> list[Headline]:
    """Figures with their intervals: from result.json, or, given `anew`, measured on other data."""
    result = _read(run / "result.json")
    trained = {name: value for name, value in result.items() if isinstance(value, float) and name != "seconds"}
    spans: Mapping[str, Sequence[float]] = result.get("intervals", {})
    beside = [result.get("untrained", {}), result.get("baseline", {})]
    if anew is not None:
        found = anew.measure(model)
        trained, spans, beside = rounded(found), intervals(found), [{}, {}]
    return [
        Headline(name.replace("_", " "), value, spans.get(name), beside[0].get(name), beside[1].get(name))
        for name, value in trained.items()
    ]


def _curves(run: Path) -> list[Chart]:
    path = run / "metrics.jsonl"
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue  # a last line that a kill cut short
    return curves(rows)


def _views(recipe: Run, notes: list[str]) -> list[Section]:
    try:
        return view_sections(recipe, rows=4, draws=4)
    except InputError as error:
        notes.append(f"Views are not shown: {error}")
        return []


def _environment(run: Path, space: str | None) -> dict[str, str]:
    found = {"run": str(run.resolve()), "compared in": space or "the encoders' features"}
    found |= {"Python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return dict(found) if isinstance(found, dict) else {}
