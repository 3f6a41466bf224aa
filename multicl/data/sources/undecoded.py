"""Rows as they are stored: media as bytes and paths, numbers as plain Python."""

from __future__ import annotations

import os
from dataclasses import is_dataclass, replace
from typing import Any

import numpy as np

from multicl.types import InputError


def undecoded(data: Any) -> Any:
    """The data with media as bytes and paths and numbers as plain Python objects; `Modality.load` decodes media."""
    kind = getattr(data, "format", {}).get("type")
    if kind != "custom":  # keep a transform of the user
        data = data.with_format(None)
    if data.features is None and hasattr(data, "_resolve_features"):
        data = data._resolve_features()
    for name, feature in (data.features or {}).items():
        plain = _plain(feature)
        if plain != feature:
            data = data.cast_column(name, plain)
    return data


def _plain(feature: Any) -> Any:
    """The feature with decoding turned off for all media in it."""
    import datasets

    if isinstance(feature, dict):
        return {name: _plain(part) for name, part in feature.items()}
    if isinstance(feature, list):
        return [_plain(part) for part in feature]
    if is_dataclass(feature) and not isinstance(feature, type):
        if hasattr(feature, "decode"):  # except JSON, of datasets 5: texts beside lists
            return feature if isinstance(feature, getattr(datasets, "Json", ())) else replace(feature, decode=False)
        if hasattr(feature, "feature"):
            return replace(feature, feature=_plain(feature.feature))
    return feature


def records(frame: Any) -> list[dict[str, Any]]:
    """The rows of a DataFrame; NaN, NA and NaT become None, and arrays of texts (from Parquet's lists) become lists.

    Raises:
        InputError: two columns have the same name.
    """
    names = [str(name) for name in frame.columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"the DataFrame has two columns {twice[0]!r}: give one of them another name")
    plain = frame.set_axis(names, axis=1).astype(object)
    rows: list[dict[str, Any]] = plain.where(frame.notna().to_numpy(), None).to_dict("records")
    return [{name: _listed(cell) for name, cell in row.items()} for row in rows]


def _listed(cell: Any) -> Any:
    return cell.tolist() if isinstance(cell, np.ndarray) and cell.dtype.kind in "OUT" else cell


def let_sounds_pass() -> None:
    """Let `datasets` read sounds as bytes and paths without torchcodec, which it requires even if nothing is decoded.

    Replaces a method that would only raise in that case.
    """
    import datasets

    if not datasets.config.TORCHCODEC_AVAILABLE:
        datasets.Audio.encode_example = _encode_sound


def _encode_sound(feature: Any, value: Any) -> dict[str, Any]:
    if isinstance(value, str | os.PathLike):
        return {"bytes": None, "path": os.fspath(value)}
    if isinstance(value, bytes | bytearray):
        return {"bytes": bytes(value), "path": None}
    if isinstance(value, dict) and (value.get("bytes") is not None or value.get("path") is not None):
        return {"bytes": value.get("bytes"), "path": value.get("path")}
    raise InputError(f"a sound must be bytes, a path or a dict of them, got {type(value).__name__}")
