"""Pictures and sounds in a form that no adapter reads: recognised, so that their names are not trained on as texts."""

from __future__ import annotations

import base64
import binascii
import mimetypes
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from multicl.data.cells import is_null

SHOWN = 80
"""Most characters of a cell that a message shows."""
LEAST = 40
"""Fewest characters of base64 that may encode a picture or a sound."""


@dataclass(frozen=True)
class Odd:
    """Why no adapter reads a column."""

    what: str
    """What it holds, with an example."""
    way_out: str = ""
    """How to turn it into pictures or sounds; empty: it may not be about any."""


def odd(cells: Sequence[Any], found: Sequence[Any], media: Callable[[Sequence[Any]], bool]) -> Odd | None:
    """What a column holds that no adapter of files reads; None: nothing that is known here.

    Args:
        cells: some cells, as in the data. found: the same with paths resolved. media: tells whether an adapter of
            files reads most of the given cells.
    """
    if all(isinstance(cell, dict) for cell in cells):
        if any({"bytes", "path"} & cell.keys() for cell in cells):  # undecoded files of `datasets`
            cells, found = ([cell.get("path") for cell in each if not cell.get("bytes")] for each in (cells, found))
            return odd(cells, found, media) if cells and all(isinstance(cell, str) for cell in cells) else None
        return Odd(f"a table in each cell ({', '.join(map(repr, cells[0]))}), which needs columns of its own")
    if all(isinstance(cell, list) for cell in cells):
        parts = [part for cell in found for part in cell if not is_null(part)]
        several = all(isinstance(part, str | bytes | dict) for part in parts) and (media(parts) or name_media(parts))
        return Odd("several files in a cell", "Give each file its own row") if parts and several else None
    if not all(isinstance(cell, str) for cell in cells):
        return None
    if all("://" in cell and len(cell.split()) == 1 and not cell.startswith("file:") for cell in cells):
        way_out = "Download the files, and give their paths" if name_media(cells) else ""
        return Odd(f"links, such as {_short(cells[0])}", way_out)
    if name_media(cells):
        hint = ", with / instead of \\" if "\\" in cells[0] else ""
        way_out = f"Correct the paths{hint} (relative ones start at the table's folder, one in it or one above it)"
        return Odd(f"paths of missing files, such as {found[0]!r}", way_out)
    if all(len(cell.split()) > 1 for cell in cells) and name_media([re.split(r"[#,;|\t]", cell)[0] for cell in cells]):
        return Odd(
            f"lines that begin with file names, such as {_short(cells[0])}", "Write a table with columns image,caption"
        )
    if (decoded := [_decoded(cell) for cell in cells]) and None not in decoded and media(decoded):
        return Odd(f"base64, such as {_short(cells[0])}", "Decode it (base64.b64decode) into a Parquet table of bytes")
    return None


def name_media(cells: Sequence[Any]) -> bool:
    """Whether all cells are strings that end like file names of pictures or sounds."""
    kinds = [mimetypes.guess_type(_path(cell))[0] if isinstance(cell, str) else None for cell in cells]
    return all(kind is not None and kind.startswith(("image/", "audio/")) for kind in kinds)


def _path(text: str) -> str:
    """The path of a link without its query, or a text as it is; empty for words around a link and for data URIs."""
    text = text.strip()
    if "://" in text:
        return urlsplit(text).path if len(text.split()) == 1 else ""
    return "" if text.startswith("data:") else text


def _decoded(text: str) -> bytes | None:
    """The bytes of base64, with or without "data:image/png;base64," before it; None if it is no base64."""
    if text.startswith("data:"):
        text = text.partition("base64,")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True) if len(text) >= LEAST else None
    except (binascii.Error, ValueError):
        return None


def _short(text: str) -> str:
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")
