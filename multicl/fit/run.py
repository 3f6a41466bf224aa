"""The command `multicl fit`: inspect the data, choose a recipe, time its steps, write it, train."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from multicl.adapters import adapter
from multicl.commands.report import report
from multicl.copies import caution, copies
from multicl.data.hold_out import HoldOut
from multicl.data.loading import Data
from multicl.data.rows import Rows
from multicl.data.sources.folders import FOLDERS, passed_over
from multicl.data.sources.told import tell
from multicl.data.sources.unread import no_classes, unread_beside
from multicl.files import check_writable
from multicl.fit.columns import columns_of
from multicl.fit.plan import Plan, plan
from multicl.fit.write import viewed, write_recipe
from multicl.launcher import launch, parse, recipe_class
from multicl.repeats import several_seeds
from multicl.run import Run
from multicl.types import InputError

HELD_OUT = ("test", "validation", "val", "valid", "dev")
"""Names of a split that the data may have for evaluation; the first one found is used."""
EPOCHS = 100
"""How often a row is seen at most."""
FEW = 100
"""Held-out rows below which figures are rough."""
TRIED = 4
"""Steps that are timed."""


def fit(
    source: str,
    run: Path | None = None,
    *,
    minutes: float = 10.0,
    split: str = "train",
    config: str | None = None,
    pretrained: bool = False,
    dry_run: bool = False,
    texts: Sequence[str] = (),
    flags: Sequence[str] = (),
) -> Path:
    """Choose a recipe for a user's own data, given nothing but their path; write it, and launch it.

    Args:
        source: a file, a folder or a hub name. run: the run's folder; default: runs/fit-NAME-TIME.
        minutes: how long training may take, approximately. pretrained: begin with encoders from the hub.
        dry_run: write the recipe and stop. texts: columns whose strings are texts to learn from, even if they repeat.
        flags: flags of the recipe, such as "--train.lr 1e-4". They apply when steps are timed and when the recipe is
            launched, but are not written into it.

    Returns:
        The recipe's file, RUN.py.

    Raises:
        InputError: the data cannot be read, have fewer than two rows to train on or to measure by, or no column that
            an adapter reads; `minutes` is not above 0; the run or its recipe exists already or cannot be written; or
            it is started as several processes.
    """
    import torch

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "multicl fit runs in one process: --dry-run writes a recipe, which several processes can train"
        )
    if not minutes > 0:
        raise InputError(f"--minutes must be above 0, got {minutes}")
    data, rows, held = _opened(source, split, config)
    if min(len(rows), len(held)) < 2:
        raise InputError(
            f"{rows.label}: {len(rows)} rows to train on and {len(held)} held out, but at least two of each are needed"
        )
    chosen = plan(rows, columns_of(rows, held, texts), torch.cuda.is_available(), pretrained)
    if apart := _apart(data, chosen, len(held)):
        data, rows, held = apart, apart.open(), apart.open(apart.test)
        chosen = plan(rows, columns_of(rows, held, texts), torch.cuda.is_available(), pretrained)
    folder = run or Path("runs") / f"fit-{Path(source).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    file = folder.with_name(f"{folder.name}.py")
    _check_new(folder, file)
    chosen = replace(chosen, why=(*chosen.why, *_cautions(chosen, data, rows, held)))
    told = chosen.why
    if copied := copies({node.column: adapter(node.kind)().files for node in chosen.nodes}, rows, held):
        chosen = replace(chosen, why=(*told, caution(copied, len(held))))
    print(f"{rows.label}: {len(rows)} rows to train on, {len(held)} held out" + _how_held(data))
    said = chosen.why if dry_run else told  # the run that follows reports copies itself
    print("".join(f"  {line}\n" for line in said), end="", flush=True)
    write_recipe(file, chosen, data, TRIED, source)
    timed, each = _timed(file, source, flags)
    batch_size = timed.train.batch_size
    steps = steps_within(minutes, each, chosen.rows, batch_size)
    write_recipe(file, chosen, data, steps, source)
    epochs = steps * batch_size / chosen.rows
    but = f"; more would show each row over {EPOCHS} times" if steps < int(60 * minutes / each) else ""
    but += "; your flags set other steps" if timed.train.steps != TRIED else ""
    print(f"  {steps} steps ({epochs:.1f} epochs), {each:.2g} s each: about {steps * each / 60:.1f} minutes{but}")
    print(
        f"written: {file}, a recipe to edit; `accelerate launch {shlex.quote(str(file))}` for several processes",
        flush=True,
    )
    if dry_run and flags:
        print(f"to train: {shlex.join(['python', str(file), '--run', str(folder), *flags])}")
    if not dry_run:
        launch(_loaded(file), ["--run", str(folder), *flags], finish=_report)
    return file


def _check_new(folder: Path, file: Path) -> None:
    """Refuse a run's folder or a recipe's file that exists already, or a file that cannot be written."""
    for there in (folder, file):
        if there.exists():
            again = shlex.join(["python", str(file), "--run", str(folder), "--resume", "auto"])
            raise InputError(f"{there} exists: give another --run, or continue with {again}")
    check_writable(file, "or give another --run")


def _timed(file: Path, source: str, flags: Sequence[str]) -> tuple[Run, float]:
    """The recipe in `file` with `flags`, and the seconds that a step takes; the file is removed after an error."""
    try:
        way = f"multicl fit {shlex.quote(source)} --dry-run, then python RECIPE.py"  # the file is gone after an error
        recipe = parse(recipe_class(str(file)), several_seeds(flags)[1], way)  # a wrong flag is refused before any step
        return recipe, seconds_a_step(recipe)
    except BaseException:  # else another try under this name would find a recipe that was never launched
        file.unlink()
        raise


def _report(recipe: Run, result: dict[str, Any]) -> None:
    """Write the run's page, if plotly is installed to draw it."""
    assert recipe.run is not None
    if find_spec("plotly") is None:
        print("for a page of the run: pip install 'multicl[report]', then multicl report " + str(recipe.run))
    else:
        report(recipe.run)


def seconds_a_step(recipe: Run) -> float:
    """Seconds of a training step, without what only the first steps have to do."""

    def seconds(steps: int) -> float:
        trial: Any = replace(recipe, run=None, train=replace(recipe.train, steps=steps))
        began = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            trial.trainer().fit()
        return time.perf_counter() - began

    seconds(1)  # warm-up: imports, a cold disk, a library's first call
    one, more = seconds(1), seconds(1 + TRIED)
    if more <= one:  # noise of a busy machine: count the start-up, too
        return more / (1 + TRIED)
    return max(1e-4, (more - one) / TRIED)


def steps_within(minutes: float, each: float, rows: int, batch_size: int) -> int:
    """Number of steps of `each` seconds that fit into the time and see no row more than EPOCHS times; at least 10."""
    most = EPOCHS * max(1, rows // batch_size)
    return max(10, min(most, int(60 * minutes / each)))


def _opened(source: str, split: str, config: str | None) -> tuple[Data, Rows, Rows]:
    """The data with their own held-out split or with a tenth held out, their training rows and their held-out rows.

    A split that lacks a column, as ImageNet's test lacks classes, is not used: nothing could be measured on it.
    """
    data = Data(path=source, split=split, config=config)
    for name in HELD_OUT:
        if name != split and (held := _opens(data, name)):
            rows = data.open()
            if not (lacks := {*(rows.names or ())} - {*(held.names or ())}):
                return replace(data, test=name), rows, held
            tell(f"{held.label} has no {' and no '.join(sorted(lacks))}: rows of {split!r} are held out instead")
    kept = HoldOut(path=source, split=split, config=config)
    rows, held = kept.open(), kept.open(kept.test)
    if len(held) < 2 < len(rows):  # one row alone would always be found
        kept = replace(kept, hold_out=2 / (len(rows) + len(held)))
        rows, held = kept.open(), kept.open(kept.test)
    return kept, rows, held


def _apart(data: Data, chosen: Plan, wanted: int) -> HoldOut | None:
    """The data split so that all rows of one picture, sound or text, which repeat, are on one side.

    Of several columns, the first of files counts, else the first. None: nothing repeats, or less than half of the
    rows `wanted` would be held out.
    """
    if not isinstance(data, HoldOut):
        return None
    whole = next((node for node in chosen.nodes if adapter(node.kind)().files), chosen.nodes[0])
    apart = replace(data, together=whole.column)
    with contextlib.suppress(InputError):  # all rows hold the same thing
        if (apart.held != data.held).any() and apart.held.sum() >= max(2, wanted / 2):
            return apart
    return None


def _cautions(chosen: Plan, data: Data, rows: Rows, held: Rows) -> list[str]:
    """Warnings: which files of a folder are not read, and what figures on these held-out rows cannot tell."""
    said = unread_beside(rows.data, rows.base)
    reader, folder = getattr(getattr(rows.data, "info", None), "builder_name", None), Path(data.path or "").expanduser()
    if reader in FOLDERS and folder.is_dir():
        whole = isinstance(data, HoldOut) and data.split == "train"
        beside = passed_over(folder, len(rows) + len(held) if whole else None)
        said += [*beside, *([] if chosen.label else no_classes(rows.data, folder))]
    if len(held) < FEW and (chosen.crossings or viewed(chosen)):
        chance = min(1, 10 / len(held))
        said.append(f"{len(held)} held-out rows are few: figures are rough, and recall@10 is {chance:.0%} by chance")
    elif len(held) < FEW and chosen.label:
        said.append(f"{len(held)} held-out rows are few: figures are rough")
    if not (chosen.label or chosen.crossings or viewed(chosen)):
        said.append("nothing is measured: that needs a second column to find, or a column of labels")
    return said


def _opens(data: Data, split: str) -> Rows | None:
    try:
        return data.open(split)
    except InputError:
        return None


def _how_held(data: Data) -> str:
    if not isinstance(data, HoldOut):
        return f", the split {data.test!r}"
    drawn = ", a random tenth" if data.hold_out == HoldOut.hold_out else ", drawn at random"
    return drawn if data.together is None else f"{drawn}, with all rows of one {data.together} on one side"


def _loaded(file: Path) -> type[Run]:
    """The recipe as the file now has it; an earlier version may have been imported."""
    for name, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) == str(file.resolve()):
            del sys.modules[name]
    return recipe_class(str(file))
