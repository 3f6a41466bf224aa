"""What each column of a data set holds: cells that an adapter reads, labels, or something to leave alone."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from multicl.adapters import adapter, entry_point_names
from multicl.data.cells import is_null, resolve_path
from multicl.data.ids import label_key
from multicl.data.rows import Rows
from multicl.fit.odd import Odd, name_media, odd
from multicl.types import BadSample, InputError, Modality

LOOKED_AT = 200
"""Rows that are inspected, spread over the data."""
READ = 8
"""Cells of a column that each adapter tries to read."""
CLASSES = 1000
"""Most distinct labels of a column."""
LABELS = ("label", "labels", "class", "cls", "target", "category", "y")
"""Usual names of a column of labels; of several such columns, those named here come first, in this order."""
CAPTIONS = ("caption", "captions", "text", "description", "sentence", "prompt", "title")
"""Usual names of a column of descriptions, whose strings are texts, however often they repeat."""
NEGATIVES = ("negative", "negatives", "neg", "hard_negative")
"""Usual names of a column of explicit hard negatives: texts that do not match the others in their row."""
SCORES = ("score", "similarity", "similarity_score", "relatedness_score", "is_duplicate", "gold_label", *LABELS[:2])
"""Usual names of a column that says whether, or how well, the two texts of a row match."""
SHORT = 30
"""Most characters of a label in a column whose name is not in LABELS."""
LONG = 120
"""Most characters of a label in a column whose name is in LABELS."""
IDS = range(8, 41)
"""Lengths of an id in characters; a shorter code may be what a picture shows, as in captchas."""
OFTEN = 0.5
"""Share of the rows that must have a cell in a column for it to be used."""
COUNTED = 20 * CLASSES
"""Rows in which classes are counted, if the inspected rows are too few to show them all."""


@dataclass(frozen=True)
class Column:
    """One column of the data."""

    name: str
    adapter: str | None
    """Name of the adapter that reads it; None: no adapter does."""
    cells: tuple[Any, ...]
    """Inspected cells that are neither null nor blank."""
    present: float
    """Share of the inspected rows that have a cell; in a column of labels, a label."""
    classes: int = 0
    """Number of distinct labels; 0: the column holds something else."""
    odd: Odd | None = None
    """Why no adapter reads it, where that is known."""
    asked: bool = False
    """Whether the user said that it holds texts."""


def columns_of(rows: Rows, held: Rows | None = None, texts: Sequence[str] = ()) -> list[Column]:
    """All columns in the data's order, except a format's own: WebDataset's `__key__` and `__url__`.

    Args:
        rows: training rows. held: held-out rows; labels that none of these has are not used.
        texts: columns whose strings are texts to learn from, however often they repeat.

    Raises:
        InputError: the data are a stream; a column of `texts` is missing or holds no strings; or a column's name is
            also the value of several of its cells, which shows that the first line is a row.
    """
    if rows.streaming:
        raise InputError(
            f"{rows.label} is a stream, which multicl fit cannot inspect: write a recipe for it (multicl recipes)"
        )
    names = [name for name in rows.names or [] if not (name.startswith("__") and name.endswith("__"))]
    seen = rows.fetch(_spread(len(rows), LOOKED_AT), names)
    if cell := next((name for name in names if _is_label(name, [row.get(name) for row in seen])), None):
        raise InputError(
            f"{rows.label}: the first line holds a row ({cell!r}), not column names: write names before it, such as "
            + ",".join(("image", "caption", "label", *(f"other_{i}" for i in range(len(names))))[: len(names)])
        )
    for name in texts:
        if name not in names:
            raise InputError(f"--as-text {name}: {rows.label} has no such column; it has {names}")
        if not any(isinstance(row.get(name), str) for row in seen):
            raise InputError(f"--as-text {name}: column {name!r} of {rows.label} holds no texts")
    columns = [_column(name, [row.get(name) for row in seen], rows, name in texts) for name in names]
    return [
        replace(column, classes=0, odd=Odd("labels, but no held-out row has one"))
        if column.classes and held is not None and not _labelled(held, column.name)
        else column
        for column in columns
    ]


def labels_among(columns: Sequence[Column]) -> Column | None:
    """The column of labels; of several, the one whose name is first in LABELS, else the first that all rows have."""

    def place(column: Column) -> tuple[int, bool]:
        return LABELS.index(name) if (name := column.name.lower()) in LABELS else len(LABELS), column.present < 1

    return min((c for c in columns if c.classes and c.present >= OFTEN), key=place, default=None)


def _labelled(rows: Rows, name: str) -> bool:
    """Whether any row has a label in a column; stops at the first."""
    return rows.has(name) and any(label_key(cell) is not None for cell in rows.cells(name))


def _is_label(name: str, cells: Sequence[Any]) -> bool:
    """Whether several cells equal their column's name, which shows that the first line is a row."""
    return [cell for cell in cells if isinstance(cell, str)].count(name) > 1


def _spread(rows: int, most: int) -> list[int]:
    """Row numbers from first to last in unequal steps, as rows of one kind may recur at a fixed interval."""
    places: list[int] = np.linspace(0, rows - 1, min(rows, most)).astype(int).tolist()
    return places


def _column(name: str, raw: list[Any], rows: Rows, text: bool) -> Column:
    cells = [cell for cell in raw if not (is_null(cell) or (isinstance(cell, str) and not cell.strip()))]
    if classes := 0 if text else _classes(name, cells, rows):
        return Column(name, None, tuple(cells), sum(label_key(cell) is not None for cell in cells) / len(raw), classes)
    present = len(cells) / len(raw)
    if not cells or constant(cells):
        return Column(name, None, tuple(cells), present)
    some = [cells[at] for at in _spread(len(cells), READ)]
    owner = _owner(some, rows)
    if owner is None or not adapter(owner)().files:  # an adapter of texts would also read file names
        found = [resolve_path(cell, rows.base) for cell in some]
        if why := odd(some, found, lambda media: _owner(media, rows, files=True) is not None):
            return Column(name, None, tuple(cells), present, odd=why)
        if not (text or name.lower() in CAPTIONS) and (why := _no_texts(name, cells)):
            return Column(name, None, tuple(cells), present, odd=why)
    return Column(name, owner, tuple(cells), present, asked=text)


def _no_texts(name: str, cells: Sequence[Any]) -> Odd | None:
    """What strings are that teach nothing: ids (of videos, speakers) or lists of labels; None: they may be texts."""
    if all(isinstance(cell, list) for cell in cells):
        parts = [part for cell in cells for part in cell]
        return Odd("several labels in a cell") if 0 < _count(parts, called=False) <= len(cells) // 4 else None
    words = [cell for cell in cells if isinstance(cell, str) and cell.isascii() and len(cell.split()) == 1]
    if len(words) < len(cells) or not all(len(word) in IDS for word in words):
        return None
    numbered = sum(any(map(str.isdigit, word)) for word in words) > len(words) / 2
    return Odd(f"ids, such as {cells[0]!r}; --as-text {shlex.quote(name)} trains on them") if numbered else None


def _classes(name: str, cells: list[Any], rows: Rows) -> int:
    """Number of distinct labels in a column; 0: it holds something else.

    If its name is in LABELS, but the inspected rows hold few of each label, more rows are counted.
    """
    called = name.lower() in LABELS
    if name.lower() in CAPTIONS and all(isinstance(cell, str) for cell in cells):
        return 0
    count = _count(cells, called)
    if count < 2 or name_media(cells):  # a file repeats if each of its captions has a row
        return 0
    if names := rows.class_names(name):
        return len(names)
    if count <= min(CLASSES, len(cells) // (2 if called else 4)):
        return count
    if len(rows) <= LOOKED_AT or not called:
        return 0
    more = [row.get(name) for row in rows.fetch(_spread(len(rows), COUNTED), [name])]
    count = _count([cell for cell in more if not is_null(cell)], called)
    return count if 2 <= count <= min(CLASSES, len(more) // 4) else 0


def _count(cells: Sequence[Any], called: bool) -> int:
    """Number of distinct labels; 0: some cell cannot be a label. called: the column's name is in LABELS."""
    if not all(_may_be_label(cell, LONG if called else SHORT) for cell in cells):
        return 0
    return len({label_key(cell) for cell in cells} - {None})


def constant(cells: Sequence[Any]) -> bool:
    """Whether every row has the same string, which tells no row from another."""
    return len(cells) > 1 and all(isinstance(cell, str) and cell == cells[0] for cell in cells)


def _may_be_label(cell: Any, longest: int) -> bool:
    if isinstance(cell, float):  # tables turn integers into floats if some are missing
        return cell.is_integer()
    return isinstance(cell, int) or (isinstance(cell, str) and len(cell) <= longest)


def _owner(cells: Sequence[Any], rows: Rows, files: bool = False) -> str | None:
    """The adapter that reads most of the cells; one of files before one of texts, which also reads any path.

    files: consider adapters of files alone.
    """
    best: tuple[bool, float, str] | None = None
    for name in sorted(entry_point_names()):
        made = adapter(name)()
        if files and not made.files:
            continue
        share = sum(_reads(made, resolve_path(c, rows.base if made.files else None)) for c in cells)
        if share > len(cells) / 2 and (best is None or (made.files, share) > best[:2]):
            best = made.files, share, name
    return best[2] if best else None


def _reads(modality: Modality, cell: Any) -> bool:
    try:
        modality.load(cell, None)
    except BadSample:
        return False
    return True
