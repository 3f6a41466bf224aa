"""Transcripts beside sounds or images: .txt files whose lines begin with file names, as LibriSpeech's *.trans.txt."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from multicl.data.sources.folders import is_medium

TEXT = "text"
"""The column that is added."""
TRIED = 3
"""If the first so many texts have no such line, no more are read: there may be one beside each image."""


def with_transcripts(data: Any, folder: Path) -> Any:
    """The rows of a folder of media with a column `text` from lines of .txt files beside them; null where none matches.

    Args:
        data: a `datasets.Dataset` or `IterableDataset` of the folder, undecoded; returned unchanged if there are no
            such lines, or if metadata gave it other columns.
    """
    from datasets import Features, Value

    features = data.features or {}
    medium = next((name for name in ("audio", "image") if name in features), None)
    if medium is None or features.keys() - {medium, "label"} or not (lines := _lines(folder.resolve())):
        return data
    find = partial(_found, lines, medium)
    return data.map(find, batched=True, features=Features({**features, TEXT: Value("string")}))


def _found(lines: Mapping[str, str], medium: str, rows: Mapping[str, Any]) -> dict[str, list[str | None]]:
    return {TEXT: [lines.get(cell["path"].rpartition(".")[0]) for cell in rows[medium]]}


def _lines(folder: Path) -> dict[str, str]:
    """Path of a media file without its extension -> the rest of its line after the name."""
    found: dict[str, str] = {}
    tried = 0
    for home, _, names in os.walk(folder):
        texts = sorted(name for name in names if name.endswith(".txt"))
        media = {name.rpartition(".")[0] for name in names if is_medium(name)} if texts else set[str]()
        for text in texts if media else ():
            for line in Path(home, text).read_text("utf-8-sig", "replace").splitlines():
                name, *words = line.split(maxsplit=1) or [""]
                if words and name in media:
                    found[str(Path(home, name))] = words[0].strip()
            tried += 1
            if tried == TRIED and not found:
                return {}
    return found
