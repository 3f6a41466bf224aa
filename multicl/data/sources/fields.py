"""Columns from the .json of each WebDataset sample: each key, such as a caption, becomes a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

ENDS = ("json", "jsn")


def with_fields(data: Any) -> Any:
    """The data with a column for each key of its JSON, unless a column of that name exists; the JSON column stays.

    Args:
        data: a `datasets.Dataset` of tars, undecoded, or an `IterableDataset`.
    """
    from datasets import Features, concatenate_datasets

    features = data.features or {}
    tables = {name: kind for name, kind in features.items() if name in ENDS and isinstance(kind, dict)}
    made = {key: (name, part) for name, kind in tables.items() for key, part in kind.items() if key not in features}
    if not made:
        return data
    take = partial(_taken, {key: name for key, (name, _) in made.items()})
    kinds = {key: part for key, (_, part) in made.items()}
    if not hasattr(data, "__len__"):
        return data.map(take, batched=True, features=Features({**features, **kinds}))
    parts = data.select_columns(list(tables))
    fields = parts.map(take, batched=True, remove_columns=list(tables), features=Features(kinds))
    both = concatenate_datasets([data, fields], axis=1)
    both.info.builder_name = data.info.builder_name
    return both


def _taken(made: Mapping[str, str], rows: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """A batch of rows -> the values of each key; None where a row lacks it."""
    return {key: [(cell or {}).get(key) for cell in rows[name]] for key, name in made.items()}
