"""Classes of folders that `datasets` gives up: Tiny-ImageNet's train/CLASS/images/, ImageNet's beside a flat val/."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import PurePath
from typing import Any

from multicl.data.sources.folders import is_medium

LABEL = "label"
"""The column that is made."""


def with_classes(data: Any, files: Iterable[Any]) -> Any:
    """The rows of a folder of media with the one folder of their paths in which they differ, by its name.

    Args:
        data: a `datasets.Dataset` or `IterableDataset` of the folder, undecoded; where it has other columns than its
            media, or these lie in one folder, or differ in several, it comes back as it is.
        files: the paths of all its rows.
    """
    from datasets import Features, Value

    medium, *others = data.features or {}
    paths = [str(file).replace("\\", "/") for file in files]
    if others or not all(map(is_medium, paths)):  # archives
        return data
    homes = {path.rpartition("/")[0] for path in paths}  # of a million files few
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
