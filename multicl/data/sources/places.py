"""Files that a table names and that lie in several folders: UrbanSound8K's folds, HAM10000's two parts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from multicl.data.sources.beside import LONG
from multicl.data.sources.folders import is_medium, walk

MOST = 500_000
"""Files that are looked through, in a few seconds: above a table there may be anything."""


def places(names: Sequence[str], folder: Path, end: str) -> dict[str, str]:
    """Cells of a table in `folder` -> paths from there, of every picture and sound whose name is of no second one.

    They are looked for below the folder, and where the names are LONG below the one above it.

    Args:
        names: some cells, all of which must be found. end: what cells lack to be names of files.

    Returns:
        Empty: some name is of no file, or of two.
    """
    homes = {"": folder, "../": folder.resolve().parent}
    if min(len(Path(name + end).stem) for name in names) < LONG:
        del homes["../"]
    for prefix, home in homes.items():
        found, start = dict[str, str](), len(str(home / "_")) - 1
        twice = set[str]()
        for path in islice(walk(home), MOST):
            name = path.rpartition(os.sep)[2].removesuffix(end)  # by pathlib a million take half a minute
            if path.endswith(end) and is_medium(path):
                if name in found:
                    twice.add(name)
                found[name] = prefix + path[start:].replace(os.sep, "/")
        if not twice.isdisjoint(names):
            return {}
        if found.keys() >= {*names}:
            return {name: path for name, path in found.items() if name not in twice}
    return {}
