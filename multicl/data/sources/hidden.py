"""Images and sounds that `datasets` would miss because other files in their folder are named like splits.

It would read only those: Speech Commands' testing_list.txt, CUB's train_test_split.txt, ESC-50's tests/, Food-101's
meta/.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

from multicl.data.sources.beside import ROWS, is_file_name
from multicl.data.sources.folders import kind_of, media_in, walk
from multicl.data.sources.told import tell
from multicl.types import InputError

_BUILDERS = {"pictures": "imagefolder", "sounds": "audiofolder"}


def only_media(folder: Path) -> tuple[str, dict[str, Any]] | None:
    """The builder and options for a folder of only images, or only sounds, and no split names; None: it is another.

    Without them, `datasets` searches the folder 66 times for names of splits, which takes longer than all that follows.
    """
    from datasets.config import REPOYAML_FILENAME  # a hidden file that may say which files are rows
    from datasets.data_files import SPLIT_KEYWORDS

    start, kinds = len(str(folder)), set[str | None]()
    marks = ["-of-", *chain.from_iterable(SPLIT_KEYWORDS.values())]  # "-of-": of train-00000-of-00002.jpg
    for file in walk(folder):
        name = file.rpartition(os.sep)[2]
        if name == REPOYAML_FILENAME or not name.startswith((".", "__")):
            kinds.add(kind_of(file))
            if len(kinds) > 1 or any(mark in file[start:] for mark in marks):
                return None
    found = next((_BUILDERS[kind] for kind in kinds if kind in _BUILDERS), None)
    return None if found is None else (found, _all_of(folder))


def hidden_media(folder: Path, chosen: Iterable[Any]) -> tuple[str, dict[str, Any]] | None:
    """The builder and options for a folder's images or sounds; None: they are not more numerous than `chosen`.

    Args:
        chosen: the files that `datasets` would read by default, neither media nor tables.

    Raises:
        InputError: the media lie at several depths and may differ in meaning, as images and masks do.
    """
    files = list(chosen)
    kind, media = max(media_in(folder).items(), key=lambda found: len(found[1]))
    if len(media) <= len(files):
        return None
    depths = {file.count(os.sep): file for file in media}
    if len(depths) > 1:
        raise InputError(
            f"{folder} holds {kind} at several depths ({', '.join(sorted(depths.values()))}): give the path of the "
            "folder that you mean"
        )
    others = f", and not {files[0]}, which is named like a split" if files else ""
    tell(f"{folder}: {len(media)} {kind} are read{others}")
    return _BUILDERS[kind], _all_of(folder)


def _all_of(folder: Path) -> dict[str, Any]:
    """Builder options to read every file of its kind in a folder as one split, train."""
    return {"data_dir": str(folder.resolve()), "data_files": {"train": "**"}}


def refuse_unnamed(folder: Path, rows: Any) -> None:
    """Refuse tables that name no files if their folder holds more images or sounds than the tables have rows.

    Args:
        rows: [N] rows of the tables, undecoded.

    Raises:
        InputError: that is the case.
    """
    if any(_is_file(cell) for row in islice(rows, ROWS) for cell in row.values()):
        return
    kind, media, home = media_home(folder)
    if media > len(rows):
        raise InputError(
            f"the tables in {folder} name none of its {media} {kind}: give the path of their folder ({home}), or of "
            "one table"
        )


def media_home(folder: Path) -> tuple[str, int, str]:
    """The more frequent kind in a folder, "pictures" or "sounds"; how many; the innermost folder holding them all."""
    kind, media = max(media_in(folder).items(), key=lambda found: len(found[1]))
    homes = {file.rpartition(os.sep)[0] for file in media} or {str(folder)}
    return kind, len(media), os.path.commonpath(list(homes))


def _is_file(cell: Any) -> bool:
    """Whether a cell is a file or several, given by content, name or link."""
    if isinstance(cell, list):
        return any(map(_is_file, cell))
    if isinstance(cell, Mapping):
        return any(map(_is_file, cell.values()))
    return isinstance(cell, bytes) or is_file_name(cell) or (isinstance(cell, str) and _is_elsewhere(cell))


def _is_elsewhere(cell: str) -> bool:
    return "://" in cell or cell.startswith("~") or Path(cell).is_absolute()
