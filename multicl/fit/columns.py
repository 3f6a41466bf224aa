"""What the columns of a data set are: an adapter's, labels, or something to leave alone."""

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
"""Rows whose cells are looked at, spread over the data."""
READ = 8
"""Cells of a column that each adapter is asked to read."""
CLASSES = 1000
"""Most different labels."""
LABELS = ("label", "labels", "class", "cls", "target", "category", "y")
"""Names that a column of labels often has; among several such columns these come first."""
CAPTIONS = ("caption", "captions", "text", "description", "sentence", "prompt", "title")
"""Names that a column of descriptions often has: its strings are texts, however often they repeat."""
NEGATIVES = ("negative", "negatives", "neg", "hard_negative")
"""Names that a column of texts often has which are no match for those beside them."""
SCORES = ("score", "similarity", "similarity_score", "relatedness_score", "is_duplicate", "gold_label", *LABELS[:2])
"""Names of a column that says whether the two texts of a row match, and how well."""
SHORT = 30
"""Characters of the longest label of a column that is not called so."""
LONG = 120
"""Of one that is."""
IDS = range(8, 41)
"""Characters of an id; shorter codes may be read in pictures, as of captchas."""
OFTEN = 0.5
"""Share of the rows that must have a column, for it to be used."""
COUNTED = 20 * CLASSES
"""Rows among which classes are counted, where a column may have more than the rows that are looked at show."""


@dataclass(frozen=True)
class Column:
    """One column of the data."""

    name: str
    adapter: str | None
    """Whose it is; None: nobody's."""
    cells: tuple[Any, ...]
    """Some that are not null."""
    present: float
    """Share of the looked-at rows that have a cell; of labels, that have one."""
    classes: int = 0
    """Different labels, of the cells that were looked at; 0: these are no labels."""
    odd: Odd | None = None
    """Why no adapter reads it, where that is known."""
    asked: bool = False
    """The user says that it holds texts."""


def columns_of(rows: Rows, held: Rows | None = None, texts: Sequence[str] = ()) -> list[Column]:
    """Every column, in the data's order, but for a format's own: WebDataset's `__key__` and `__url__`.

    Args:
        rows: to train on. held: to be measured by: labels that none of these has are of no use.
        texts: columns whose strings are texts to learn from, however often they repeat.

    Raises:
        InputError: a stream; no column of `texts`, or one that holds no strings; or a column is called as several of
            its cells are, as the first line is a row.
    """
    if rows.streaming:
        raise InputError(
            f"{rows.label} is a stream, which is not looked through: write a recipe for it (multicl recipes)"
        )
    names = [name for name in rows.names or [] if not (name.startswith("__") and name.endswith("__"))]
    seen = rows.fetch(_spread(len(rows), LOOKED_AT), names)
    if cell := next((name for name in names if _is_label(name, [row.get(name) for row in seen])), None):
        raise InputError(
            f"{rows.label}: the first line, in which columns are named, is a row ({cell!r}): write names before it, as "
            + ",".join(("image", "caption", "label", *(f"other_{i}" for i in range(len(names))))[: len(names)])
        )
    for name in texts:
        if name not in names:
            raise InputError(f"--as-text {name}: {rows.label} has no such column; it has {names}")
        if not any(isinstance(row.get(name), str) for row in seen):
            raise InputError(f"--as-text {name}: column {name!r} of {rows.label} holds no texts")
    columns = [_column(name, [row.get(name) for row in seen], rows, name in texts) for name in names]
    return [
        replace(column, classes=0, odd=Odd("labels, which no held-out row has"))
        if column.classes and held is not None and not _labelled(held, column.name)
        else column
        for column in columns
    ]


def labels_among(columns: Sequence[Column]) -> Column | None:
    """The column whose values are labels; of several the one that is called so, else the first that all rows have."""

    def place(column: Column) -> tuple[int, bool]:
        return LABELS.index(name) if (name := column.name.lower()) in LABELS else len(LABELS), column.present < 1

    return min((c for c in columns if c.classes and c.present >= OFTEN), key=place, default=None)


def _labelled(rows: Rows, name: str) -> bool:
    """Whether any row has a label; stops at the first."""
    return rows.has(name) and any(label_key(cell) is not None for cell in rows.cells(name))


def _is_label(name: str, cells: Sequence[Any]) -> bool:
    """Whether a column is called as several of its cells are, which tells of a first line that is a row."""
    return [cell for cell in cells if isinstance(cell, str)].count(name) > 1


def _spread(rows: int, most: int) -> list[int]:
    """Places from the first row to the last, at steps that are rarely equal: every fifth row may be of one kind."""
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
    if owner is None or not adapter(owner)().files:  # an adapter of texts would read the names of files, too
        found = [resolve_path(cell, rows.base, "files") for cell in some]
        if why := odd(some, found, lambda media: _owner(media, rows, files=True) is not None):
            return Column(name, None, tuple(cells), present, odd=why)
        if not (text or name.lower() in CAPTIONS) and (why := _no_texts(name, cells)):
            return Column(name, None, tuple(cells), present, odd=why)
    return Column(name, owner, tuple(cells), present, asked=text)


def _no_texts(name: str, cells: Sequence[Any]) -> Odd | None:
    """What strings are that say nothing: ids of videos or speakers, and lists of labels; None: they may be texts."""
    if all(isinstance(cell, list) for cell in cells):
        parts = [part for cell in cells for part in cell]
        return Odd("several labels in a cell") if 0 < _count(parts, called=False) <= len(cells) // 4 else None
    words = [cell for cell in cells if isinstance(cell, str) and cell.isascii() and len(cell.split()) == 1]
    if len(words) < len(cells) or not all(len(word) in IDS for word in words):
        return None
    numbered = sum(any(map(str.isdigit, word)) for word in words) > len(words) / 2
    return Odd(f"ids, as {cells[0]!r}; --as-text {shlex.quote(name)}: texts to learn from") if numbered else None


def _classes(name: str, cells: list[Any], rows: Rows) -> int:
    """How many labels a column has; 0: it holds something else.

    A column that is called so may have more of them than the looked-at rows can show several of each.
    """
    called = name.lower() in LABELS
    if name.lower() in CAPTIONS and all(isinstance(cell, str) for cell in cells):
        return 0
    count = _count(cells, called)
    if count < 2 or name_media(cells):  # files that repeat, a row for each of their captions
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
    """Different labels; 0: some cells can be none. called: the column is called as labels are."""
    if not all(_may_be_label(cell, LONG if called else SHORT) for cell in cells):
        return 0
    return len({label_key(cell) for cell in cells} - {None})


def constant(cells: Sequence[Any]) -> bool:
    """The same string in every row, which tells no row from another."""
    return len(cells) > 1 and all(isinstance(cell, str) and cell == cells[0] for cell in cells)


def _may_be_label(cell: Any, longest: int) -> bool:
    if isinstance(cell, float):  # whole ones are what tables make of whole numbers, some of which were missing
        return cell.is_integer()
    return isinstance(cell, int) or (isinstance(cell, str) and len(cell) <= longest)


def _owner(cells: Sequence[Any], rows: Rows, files: bool = False) -> str | None:
    """The adapter that reads most of the cells, one of files before one of texts, which reads any path, too.

    files: one of files or none.
    """
    best: tuple[bool, float, str] | None = None
    for name in sorted(entry_point_names()):
        made = adapter(name)()
        if files and not made.files:
            continue
        share = sum(_reads(made, resolve_path(c, rows.base, "files" if made.files else "values")) for c in cells)
        if share > len(cells) / 2 and (best is None or (made.files, share) > best[:2]):
            best = made.files, share, name
    return best[2] if best else None


def _reads(modality: Modality, cell: Any) -> bool:
    try:
        modality.load(cell, None)
    except BadSample:
        return False
    return True
