"""What the rows of a folder of images or sounds leave out: files of other kinds, and tables in subfolders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from multicl.data.sources.first_lines import first_rows
from multicl.data.sources.folders import FOLDERS, is_medium, media_in, unread, walk

TABLES_READ = 20
"""Tables in subfolders that are examined at most: there may be one for each media file."""


def unread_beside(data: Any, base: Path | None) -> list[str]:
    """What a folder of media holds that is not a row, a line each; empty if metadata.csv lists the rows.

    Args:
        data: the data as `datasets` opened them. base: their folder.
    """
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

    if base is None or getattr(getattr(data, "info", None), "builder_name", None) not in FOLDERS:
        return []
    named = any((base / name).exists() for name in ImageFolder.METADATA_FILENAMES)
    classes = getattr((data.features or {}).get("label"), "names", ())
    odd = [
        f"{name} is read as a class, like the folders beside it: if it is not one, move it elsewhere"
        for name in classes
        if name.startswith("_")
    ]
    return [] if named else [*unread(base), *odd, *tables_below(base)]


def no_classes(data: Any, folder: Path) -> list[str]:
    """Why a folder of media has no classes although it has subfolders; empty: it has classes, or no subfolders."""
    homes = sorted({Path(file).parent for files in media_in(folder).values() for file in files})
    if len(data.features or {}) > 1 or len(homes) < 2:
        return []
    return [
        "no classes are read: they would be the folders that hold the files, which have equal names or lie at several "
        f"depths ({homes[0]}, {homes[-1]}): name one that holds folders of classes, or a table (image,label)"
    ]


def tables_below(folder: Path) -> list[str]:
    """Tables in subfolders that name the folder's media but are not read, a line each, with advice."""
    files = list(walk(folder))
    tables = [Path(file) for file in files if file.lower().endswith((".csv", ".tsv"))]
    tables = [file for file in tables if file.parent != folder]
    media = [Path(file) for file in files if is_medium(file)] if tables else []
    names = {*(file.name for file in media), *(file.stem for file in media)}

    def named(file: Path) -> bool:
        columns = zip(*first_rows(file)[1:], strict=True)
        return any(all(Path(cell).name in names for cell in cells) for cells in columns)

    return [
        f"{table} names files of {folder}, but is not read: to read it, and these, give its path"
        for table in tables[:TABLES_READ]
        if not table.name.startswith((".", "__", "metadata.")) and named(table)
    ]
