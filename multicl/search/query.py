"""Find the nodes of a model that can read a query: each node's adapter tries."""

from __future__ import annotations

import json
import mimetypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multicl.types import InputError, Modality


def readers_of(
    modalities: Mapping[str, Modality], query: Any, node: str | None = None, paths: bool = True
) -> tuple[list[str], Any]:
    """The nodes that can read a query, in the model's order, and the cell that they read.

    A string that is a file's path is read by nodes whose cells are files. Any other string is read by nodes whose cells
    are values: as it stands or, if that fails, as JSON ("[1.5, 2.0]").

    Args:
        node: try this one alone.
        paths: whether a string may be a path; False for queries of strangers, who must not read this machine's files.

    Raises:
        InputError: there is no such file or node, or no node can read the query (with each node's reason).
    """
    if node is not None and node not in modalities:
        raise InputError(f"no node is named {node!r}; the model has {list(modalities)}")
    asked = {n: m for n, m in modalities.items() if node in (None, n)}
    if not isinstance(query, str | os.PathLike):
        return _readers(asked, query, "a query of this kind")
    text = os.fspath(query)
    if paths and (path := _file(text)) is not None:
        files = {n: m for n, m in asked.items() if m.files}
        return _readers(files, path, text)
    if paths and (isinstance(query, os.PathLike) or _names_a_file(text)):
        raise InputError(f"no such file: {text}")
    values = {n: m for n, m in asked.items() if not m.files}
    if not values:
        raise InputError(
            f"no such file: {text} (the model reads no words, only {', '.join(asked)}: give a file's path, or a "
            "model that was trained with texts)"
        )
    try:
        return _readers(values, text, repr(text))
    except InputError:
        try:
            cell = json.loads(text)
        except ValueError:
            cell = text
        return _readers(values, cell, repr(text))


def _readers(modalities: Mapping[str, Modality], cell: Any, name: str) -> tuple[list[str], Any]:
    found, reasons = [], []
    for node, modality in modalities.items():
        try:
            modality.load(cell, None)
        except Exception as error:  # plug-ins may raise anything on what they cannot read
            reasons.append(f"{node}: {error}")
        else:
            found.append(node)
    if not found:
        raise InputError(f"no node of the model can read {name}: {'; '.join(reasons) or 'none reads files'}")
    return found, cell


def _file(text: str) -> str | None:
    """The path of an existing file; else None."""
    try:
        path = Path(text).expanduser()
        return str(path) if path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # too long for a name, with a NUL in it; "~" and an unknown user
        return None


def _names_a_file(text: str) -> bool:
    """Whether a text is one word that ends like a media file, or begins like a path."""
    kind = mimetypes.guess_type(text)[0] or ""
    media = kind.startswith(("image/", "audio/", "video/"))
    return not any(c.isspace() for c in text) and (media or text.startswith(("./", "../", "/", "~/")))
