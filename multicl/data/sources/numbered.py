"""Gathers numbered caption columns, such as Clotho's caption_1 ... caption_5, into one more column, caption."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

TOGETHER = "caption"
"""The column that is added."""
_NUMBERED = re.compile(r"captions?[ _-]?\d+", re.IGNORECASE)


def with_captions(data: Any) -> Any:
    """The data with a column of each row's captions as a list, if it has two or more numbered ones and no `caption`.

    Args:
        data: a `datasets.Dataset`, of which only the captions are rewritten, or an `IterableDataset`.
    """
    from datasets import Features, List, Value, concatenate_datasets

    features = data.features or {}
    texts = [name for name, kind in features.items() if getattr(kind, "dtype", "") in ("string", "large_string")]
    parts = [name for name in texts if _NUMBERED.fullmatch(name)]
    if len(parts) < 2 or TOGETHER in features:
        return data
    made, gather = {TOGETHER: List(Value("string"))}, partial(_gathered, parts)
    if not hasattr(data, "__len__"):
        return data.map(gather, batched=True, features=Features({**features, **made}))
    lists = data.select_columns(parts).map(gather, batched=True, remove_columns=parts, features=Features(made))
    both = concatenate_datasets([data, lists], axis=1)
    both.info.builder_name = data.info.builder_name
    return both


def _gathered(parts: Sequence[str], rows: Mapping[str, list[Any]]) -> dict[str, list[list[str] | None]]:
    """A batch of rows -> the list of each row's captions; None where it has none."""
    return {TOGETHER: [list(filter(None, row)) or None for row in zip(*(rows[part] for part in parts), strict=True)]}
