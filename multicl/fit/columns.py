"""What the columns of a data set are: an adapter's, labels, or something to leave alone."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from multicl.adapters import adapter, entry_point_names
from multicl.ids import label_key
from multicl.rows import Rows, is_null, resolve_path
from multicl.types import BadSample, InputError, Modality

LOOKED_AT = 200
"""Rows whose cells are looked at, spread over the data."""
READ = 8
"""Cells of a column that each adapter is asked to read."""
CLASSES = 1000
"""Most different labels."""
LABELS = ("label", "labels", "class", "target", "category", "y")
"""Names that a column of labels often has; among several such columns these come first."""
CAPTIONS = ("caption", "captions", "text", "description", "sentence", "prompt", "title")
"""Names that a column of descriptions often has: its strings are texts, however often they repeat."""
SHORT = 30
"""Characters of the longest label."""


@dataclass(frozen=True)
class Column:
    """One column of the data."""

    name: str
    adapter: str | None
    """Whose it is; None: nobody's."""
    cells: tuple[Any, ...]
    """Some that are not null."""
    present: float
    """Share of the looked-at rows that have a cell."""
    classes: int = 0
    """Different labels among the cells that were looked at; 0: these are no labels."""
    lost: str | None = None
    """The first path, where the cells are paths of media and no file is there."""


def columns_of(rows: Rows) -> list[Column]:
    """Every column, in the data's order, but for a format's own: WebDataset's `__key__` and `__url__`.

    Raises:
        InputError: a stream, or rows without names.
    """
    if rows.streaming:
        raise InputError(
            f"{rows.label} is a stream, which is not looked through: write a recipe for it (multicl recipes)"
        )
    step = max(1, len(rows) // LOOKED_AT)
    numbers = list(range(0, len(rows), step))[:LOOKED_AT]
    names = [name for name in rows.names or [] if not (name.startswith("__") and name.endswith("__"))]
    seen = rows.fetch(numbers, names)
    return [_column(name, [row.get(name) for row in seen], rows) for name in names]


def labels_among(columns: Sequence[Column]) -> Column | None:
    """The column whose values are labels; of several the one that is called so, else the first."""
    found = [c for c in columns if c.classes and c.present == 1]
    return min(found, key=lambda c: LABELS.index(c.name) if c.name in LABELS else len(LABELS), default=None)


def _column(name: str, raw: list[Any], rows: Rows) -> Column:
    cells = [cell for cell in raw if not is_null(cell)]
    present = len(cells) / len(raw)
    classes = len({label_key(cell) for cell in cells}) if all(map(_may_be_label, cells)) else 0
    described = name.lower() in CAPTIONS and all(isinstance(cell, str) for cell in cells)
    if described or not 2 <= classes <= min(CLASSES, len(cells) // 4):
        classes = 0
    if classes or not cells or constant(cells):
        return Column(name, None, tuple(cells), present, classes)
    some = cells[:: max(1, len(cells) // READ)][:READ]
    owner = _owner(some, rows)
    if owner is not None and not adapter(owner)().files and all(map(_names_media, some)):  # which would be the texts
        return Column(name, None, tuple(cells), present, lost=resolve_path(some[0], rows.base, "files"))
    return Column(name, owner, tuple(cells), present)


def constant(cells: Sequence[Any]) -> bool:
    """The same string in every row, which tells no row from another."""
    return len(cells) > 1 and all(isinstance(cell, str) and cell == cells[0] for cell in cells)


def _may_be_label(cell: Any) -> bool:
    if isinstance(cell, float):  # whole ones are what tables make of whole numbers, some of which were missing
        return cell.is_integer()
    return isinstance(cell, int) or (isinstance(cell, str) and len(cell) <= SHORT)


def _names_media(cell: Any) -> bool:
    """A string that ends as pictures and sounds do."""
    kind = mimetypes.guess_type(cell.strip())[0] if isinstance(cell, str) else None
    return kind is not None and kind.startswith(("image/", "audio/"))


def _owner(cells: Sequence[Any], rows: Rows) -> str | None:
    """The adapter that reads most of the cells, one of files before one of texts, which reads any path, too."""
    best: tuple[bool, float, str] | None = None
    for name in sorted(entry_point_names()):
        made = adapter(name)()
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
