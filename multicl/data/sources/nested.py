"""Classes from folders where `datasets` finds none: Tiny-ImageNet's train/CLASS/images/, ImageNet with a flat val/."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import PurePath
from typing import Any

from multicl.data.sources.folders import is_medium

LABEL = "label"
"""The column that is added."""


def with_classes(data: Any, files: Iterable[Any]) -> Any:
    """The rows of a folder of media with a column `label`: the name of the one folder level in which paths differ.

    Args:
        data: a `datasets.Dataset` or `IterableDataset` of the folder, undecoded; returned unchanged if it has columns
            besides its media, or if all files lie in one folder, at different depths, or differ in several levels.
        files: the paths of all its rows.
    """
    from datasets import Features, Value

    medium, *others = data.features or {}
    paths = [str(file).replace("\\", "/") for file in files]
    if others or not all(map(is_medium, paths)):  # archives
        return data
    homes = {path.rpartition("/")[0] for path in paths}  # few, even of a million files
    parts = [PurePath(home).parts for home in homes]
    if len({*map(len, parts)}) != 1:
        return data
    differ = [at for at, names in enumerate(zip(*parts, strict=True)) if len({*names}) > 1]
    if len(differ) != 1:
        return data
    take = partial(_taken, medium, differ[0])
    return data.map(take, batched=True, features=Features({**data.features, LABEL: Value("string")}))


def _taken(medium: str, at: int, rows: Mapping[str, Any]) -> dict[str, list[str]]:
    return {LABEL: [PurePath(cell["path"]).parts[at] for cell in rows[medium]]}
