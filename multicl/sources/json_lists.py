"""JSON that is one object with rows in it, as {"data": [...]} or {"train": [...], "test": [...]}."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from multicl.types import InputError

PEEK = 1024
"""Characters in which an object begins."""


def lists_in(file: Path) -> list[str]:
    """The keys of a local .json under which lists of objects stand; none: it is something else than one object."""
    if file.suffix.lower() != ".json":
        return []
    try:
        with file.open(encoding="utf-8-sig") as lines:
            found = _only_object(lines)
    except (OSError, ValueError):  # `datasets` says what is wrong
        return []
    return [key for key, rows in found.items() if _are_rows(rows)]


def chosen(keys: Sequence[str], split: str, name: str) -> str | None:
    """Which list is a split: the one that is called so, or the only one for "train"; None: neither.

    Args:
        keys: of a file's lists. split: with or without a slice after it. name: of the file, for messages.

    Raises:
        InputError: of several, none is called so.
    """
    wanted = split.partition("[")[0]
    if wanted in keys:
        return wanted
    if len(keys) > 1:
        raise InputError(
            f"{name} is one object with several lists of rows, and none is called {wanted!r}: name one of {keys} as "
            f"the split (--data.split {keys[0]})"
        )
    return keys[0] if keys and wanted == "train" else None


def only_lists(splits: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """What the builder of a folder is to be told where each split is one local file, with one list, of one name.

    Of more files to a split each is a row, whatever lists it has.
    """
    files = [Path(str(file)) for part in splits.values() for file in part]
    found = {tuple(lists_in(file)) for file in files} if len(files) == len(splits) else set()
    keys = found.pop() if len(found) == 1 else ()
    return field_options(keys[0]) if len(keys) == 1 else {}


def field_options(key: str) -> dict[str, str]:
    """What a builder is told of one list."""
    return {"field": key, "encoding": "utf-8-sig"}


def _only_object(lines: IO[str]) -> dict[str, Any]:
    """The object that a file is; empty: an object a line, or no object.

    Raises:
        ValueError: no JSON.
    """
    if not lines.read(PEEK).lstrip().startswith("{"):  # a list's only line may be long
        return {}
    lines.seek(0)
    first = lines.readline()
    try:
        found = json.loads(first)
        if any(map(str.strip, lines)):
            return {}
    except ValueError:  # one that is written on several lines
        found = json.loads(first + lines.read())
    return found if isinstance(found, dict) else {}


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
