"""A self-contained HTML page of things and their random views, a row each: what an encoder will see and hear."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from multicl.report.parts import joined, save_html, template
from multicl.types import InputError

MEDIA = re.compile(r"(image|audio)/[a-z0-9.+-]+(;\s*codecs=[\w.,-]+)?", re.IGNORECASE)
Medium = tuple[str, bytes]
"""(MIME type, bytes): `image/*` is drawn, `audio/*` is played, `text/plain` (UTF-8) is written."""


@dataclass(frozen=True)
class Section:
    """One modality's rows."""

    title: str
    columns: Sequence[str]
    """What each medium of a row is ("as it is", "strong 0")."""
    rows: Sequence[tuple[str, Sequence[Medium]]]
    """(name, a medium for each column)."""
    note: str = ""


def write_gallery(path: Path, *, title: str, intro: str, sections: Sequence[Section]) -> Path:
    """Write the page; equal input gives equal bytes. It asks for nothing, and runs nothing.

    Args:
        path: of the HTML file; its folder is made, a file that is there is replaced.
        intro: paragraphs, split at empty lines.

    Returns:
        `path`.

    Raises:
        InputError: media that a page cannot show.
    """
    shown = [section_cells(section) for section in sections]
    page = template("gallery.html").render(
        title=title,
        paragraphs=[p for p in re.split(r"\n\s*\n", intro.strip()) if p],
        sections=shown,
        style=Markup(joined("page.css")),  # ours; all else is escaped
    )
    return save_html(path, page)


def section_cells(section: Section) -> dict[str, Any]:
    """A section as templates read it.

    Raises:
        InputError: media that a page cannot show.
    """
    return {
        "title": section.title,
        "note": section.note,
        "columns": section.columns,
        "rows": [(name, [_cell(section.title, *medium) for medium in media]) for name, media in section.rows],
    }


def _cell(section: str, mime: str, content: bytes) -> tuple[str, str]:
    """(image, audio or text; what the page needs of it)."""
    if mime.split(";")[0] == "text/plain":
        return "text", content.decode("utf-8", errors="replace")
    if MEDIA.fullmatch(mime) and content:
        return mime.split("/")[0].lower(), f"data:{mime};base64,{base64.b64encode(content).decode()}"
    raise InputError(f"{section}: a page shows image/*, audio/* and text/plain, got {mime}, {len(content)} bytes")
