"""Finds files that a table names but that lie in several folders: UrbanSound8K's folds, HAM10000's two parts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from multicl.data.sources.beside import LONG
from multicl.data.sources.folders import is_medium, walk

MOST = 500_000
"""Files that are looked at, which takes a few seconds: the folder above a table may hold anything."""


def places(names: Sequence[str], folder: Path, end: str) -> dict[str, str]:
    """Cells of a table in `folder` -> paths relative to it, for every image and sound with a unique name.

    They are searched for below the folder and, if the names are LONG, below its parent.

    Args:
        names: some cells, all of which must be found. end: the extension that cells lack.

    Returns:
        The mapping; empty if one of `names` matches no file, or two.
    """
    homes = {"": folder, "../": folder.resolve().parent}
    if min(len(Path(name + end).stem) for name in names) < LONG:
        del homes["../"]
    for prefix, home in homes.items():
        found, start = dict[str, str](), len(str(home / "_")) - 1
        twice = set[str]()
        for path in islice(walk(home), MOST):
            name = path.rpartition(os.sep)[2].removesuffix(end)  # pathlib takes half a minute for a million
            if path.endswith(end) and is_medium(path):
                if name in found:
                    twice.add(name)
                found[name] = prefix + path[start:].replace(os.sep, "/")
        if not twice.isdisjoint(names):
            return {}
        if found.keys() >= {*names}:
            return {name: path for name, path in found.items() if name not in twice}
    return {}
