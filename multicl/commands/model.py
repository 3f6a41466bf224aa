"""The commands that work with a run or a model: eval, embed and export."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from multicl.config import from_plain, read_yaml
from multicl.data.cells import blamed
from multicl.data.loading import is_path
from multicl.data.rows import Rows
from multicl.evaluation.crossing import crossing, named
from multicl.evaluation.figure import intervals, spread
from multicl.evaluation.held_out import of_model
from multicl.export import Form
from multicl.export import export as write_export
from multicl.figures import Figures, figures_table, rounded, to_json
from multicl.files import check_writable, writing
from multicl.graph import column_of
from multicl.launcher import is_main, recipe_class
from multicl.model import Model, load, space_named
from multicl.own_data import own_data, rows_for
from multicl.repeats import check_one, no_run
from multicl.run import Run
from multicl.types import InputError

NO_FIGURES = "{run}: its recipe measures nothing on these data; --measure and --pairs do (multicl eval --help)"


def opened(
    run: Path, data: str | None = None, test: str | None = None, columns: Mapping[str, str] | None = None
) -> Run:
    """The recipe of a run, from its recipe.yaml.

    Relative data paths that do not exist here are resolved against the folder where the run was launched.

    Args:
        run: a run's folder. data, test: data to use instead of the run's, and the held-out split or file.
        columns: entries added to its `data.columns`: requested name -> column of the data.

    Raises:
        InputError: the folder is not a run, or holds several; its recipe cannot be found or read.
    """
    check_one(run)
    if not (run / "recipe.yaml").is_file():
        raise InputError(no_run(run))
    plain = read_yaml(run / "recipe.yaml")
    if not isinstance(name := plain.pop("recipe", None), str):
        raise InputError(f"{run / 'recipe.yaml'} names no recipe")
    hint = " (if it was moved, write its new place into the line `recipe:`)"
    try:
        kind = recipe_class(name)
        hint = ""
        recipe = from_plain(kind, plain)
    except InputError as error:
        raise InputError(f"{run / 'recipe.yaml'}: {error}{hint}") from error
    changes: dict[str, Any] = {}
    if home := _launched_in(run, recipe.run):
        own = recipe.data
        changes = {"path": own.path and _from(home, own.path), "mix": {_from(home, k): w for k, w in own.mix.items()}}
        if is_path(own.test):
            changes["test"] = _from(home, own.test)
    if data is not None:
        changes |= {"path": data, "config": recipe.data.config_of(data)}
    if test is not None:
        changes["test"] = test
    if columns:
        changes["columns"] = {**recipe.data.columns, **columns}
    return replace(recipe, run=run, data=replace(recipe.data, **changes))


def _launched_in(run: Path, recorded: Path | None) -> Path | None:
    """The folder where the run was launched: the recorded runs/NAME leads from it to the run; None if unknown."""
    if recorded is None or recorded.is_absolute():
        return None
    whole, count = run.absolute(), len(recorded.parts)
    return whole.parents[count - 1] if count and whole.parts[-count:] == recorded.parts else None


def _from(home: Path, name: str) -> str:
    """The path resolved against `home` if it exists there and not here; else unchanged."""
    return str(home / name) if not Path(name).expanduser().exists() and (home / name).exists() else name


def evaluate(
    run: Path, data: str | None = None, test: str | None = None, pairs: Sequence[str] = (), ids: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Figures:  # fmt: skip
    """The figures of the recipe's own measures on the run's saved model; prints a table, then `RESULT {json}`.

    Args:
        run, data, test, columns: as `opened`.
        pairs: measure retrieval between these nodes instead, such as "image-audio", trained as a pair or not.
        ids: the column that decides which rows match in `pairs`: those of equal value; None: rows that share a text or
            a file.

    Raises:
        InputError: the folder holds no finished run; a pair does not name two nodes, or no row has both.
    """
    recipe, model = opened(run, data, test, columns), load(run)
    measured = Figures()
    if pairs:
        rows, nodes = recipe.data.open(recipe.data.test), model.towers.modalities
        rows.check_mapped(columns or {})
        for pair in pairs:
            a, b = named(pair, nodes)
            measured |= crossing(of_model(model), nodes, a, b, rows, ids or (a, b))
    else:
        measured = recipe.measure(model)
    figures, spans = rounded(measured), intervals(measured)
    if is_main():
        print(figures_table({"trained": figures}, spans) or NO_FIGURES.format(run=run))
        found = {"run": str(run), "space": model.space or "features", **figures, "intervals": spans}
        print("RESULT " + to_json(found), flush=True)
    return figures


def evaluate_all(runs: Sequence[Path], *args: Any) -> Figures:
    """Run `evaluate` on each run; for several, also print their mean and deviation as a table and `RESULT {json}`.

    Args:
        runs: folders of runs. args, and errors: as `evaluate`'s.

    Returns:
        The figures of the only run, or the means.
    """
    each = {str(run): evaluate(run, *args) for run in runs}
    if len(each) == 1:
        return each[str(runs[0])]
    over = spread(list(each.values()))
    mean = rounded({name: s.mean for name, s in over.items()})
    deviation = rounded({name: s.deviation for name, s in over.items()})
    if is_main():
        if over:
            print(figures_table({"mean": mean, "deviation": deviation}))
        print("RESULT " + to_json({"runs": list(each), "mean": mean, "deviation": deviation, "each": each}), flush=True)
    return mean


def embed(
    name: str,
    data: Any,
    out: Path,
    *,
    split: str = "train",
    nodes: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    space: str | None = None,
    batch_size: int = 128,
    on_error: Literal["skip", "raise"] = "skip",
) -> Path:
    """Embed a data set into a Parquet file: one column of vectors per node, null where a cell is absent or unreadable.

    Columns of plain values (numbers, texts, file names) are copied too, so that each vector can be traced to its row.
    With several processes, only the first does the work.

    Args:
        name: a run, a model or a hub name. data: as `open_rows` takes it. out: the Parquet file.
        nodes: default: all whose column is in the data. columns: node -> column of the data; default: the run's own.
        space: a space's name, or "features" for the encoder's own output; default: the recipe's choice.

    Raises:
        InputError: no column fits, a node is unknown, `out` cannot be written, or (`on_error="raise"`) a cell cannot be
            read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if out.suffix != ".parquet":
        raise InputError(f"--out must end in .parquet, got {out}")
    if not is_main():  # there is one file to write, and the work is not split over processes
        return out
    model = load(name)
    rows, chosen = rows_for(own_data(name), model.towers.modalities, data, split, columns or {}, nodes)
    check_writable(out, "or give another --out")
    embedded: dict[str, Any] = {}
    for node in chosen:
        vectors, skipped = _embed_column(model, rows, node, space, batch_size, on_error)
        embedded[f"{node}_vector"] = vectors
        done = len(rows) - vectors.null_count
        print(f"{node}: {done} of {len(rows)} rows embedded" + (f", {len(skipped)} cells left out" if skipped else ""))
        for line in skipped[:5]:
            print(f"  left out: {line}")
    carried = _carried(rows, {"row", *embedded})
    beside = out.with_name(f".{out.name}.new")
    try:
        with writing(out, "or give another --out"):
            pq.write_table(pa.table({"row": pa.array(range(len(rows))), **carried, **embedded}), beside)
            beside.replace(out)
    except InputError:
        with suppress(OSError):
            beside.unlink()
        raise
    print(f"written: {out}")
    return out


def export(name: str, to: Form, out: Path | None = None, node: str | None = None, space: str | None = None) -> None:
    """Write a model's encoder for another library and print where it is; only the first of several processes does so.

    Args:
        space: a space's name, or "features" for the encoder's own output; default: the recipe's choice.
        name, to, out, node, and errors: as `multicl.export.export`.
    """
    if is_main():
        print(f"written: {write_export(name, to, out, node=node, space=space_named(space))}")


def _carried(rows: Rows, written: set[str]) -> dict[str, Any]:
    """The plain columns of the data, as Arrow arrays; prints which are dropped because their name is taken."""
    carried: dict[str, Any] = {}
    for column in rows.names or []:
        if column in written:
            print(f"the data's own column {column!r} is not copied: the output has a column of that name")
        elif (cells := _plain_column(rows.cells(column))) is not None:
            carried[column] = cells
    return carried


def _plain_column(cells: Iterable[Any]) -> Any:
    """An Arrow array of texts or numbers; None where cells are something else or of mixed kinds."""
    import pyarrow as pa

    plain = []
    for cell in cells:
        if not (cell is None or isinstance(cell, str | int | float)):
            return None  # stop at the first such cell: reading a column of media would take long
        plain.append(cell)
    try:
        return pa.array(plain)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return None


def _embed_column(
    model: Model, rows: Rows, node: str, space: str | None, batch_size: int, on_error: str
) -> tuple[Any, list[str]]:
    """An Arrow array of the rows' vectors, null where there is none, and a line for each cell that was left out."""
    import pyarrow as pa

    modality = model.towers.modalities[node]
    column = column_of(node, modality)
    cells = rows.resolved(column, modality.files)
    present = [i for i, cell in enumerate(cells) if cell is not None]
    bad: dict[int, str] = {}
    vectors = np.zeros((len(cells), 1), np.float32)
    if present:
        z = model.embed_node(
            node, [cells[i] for i in present], space=space_named(space), batch_size=batch_size, skipped=bad
        )
        vectors = np.zeros((len(cells), z.shape[1]), np.float32)
        vectors[present] = z.numpy()
    missing = np.ones(len(cells), bool)
    missing[[i for at, i in enumerate(present) if at not in bad]] = False
    why = {present[at]: reason for at, reason in sorted(bad.items())}
    skipped = [
        f"row {i}, column {rows.resolve(column)!r}: {blamed(cells[i], modality.files, reason)}"
        for i, reason in why.items()
    ]
    if skipped and on_error == "raise":
        raise InputError(f"{rows.label}: {skipped[0]} (--on-error skip leaves such rows out)")
    array = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1], mask=pa.array(missing))
    return array, skipped
