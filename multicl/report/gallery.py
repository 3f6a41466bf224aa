"""A self-contained HTML page with a row for each thing and its random views: what an encoder will see and hear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from multicl.report.media import Medium, kind_of, shown
from multicl.report.parts import joined, paragraphs, save_html, template


@dataclass(frozen=True)
class Section:
    """The rows of one modality, or of one search."""

    title: str
    columns: Sequence[str]
    """What each medium of a row is ("as it is", "strong 0")."""
    rows: Sequence[tuple[str, Sequence[Medium]]]
    """(name, a medium for each column)."""
    note: str = ""


def write_gallery(path: Path, *, title: str, intro: str, sections: Sequence[Section]) -> Path:
    """Write the page, which loads nothing else and runs no script; equal input gives equal bytes.

    Args:
        path: the HTML file; its folder is created, an existing file is replaced.
        intro: paragraphs, separated by empty lines.

    Returns:
        `path`.

    Raises:
        InputError: media that a page cannot show.
    """
    page = template("gallery.html").render(
        title=title,
        paragraphs=paragraphs(intro),
        sections=[section_cells(section) for section in sections],
        style=Markup(joined("page.css")),  # ours; all else is escaped
    )
    return save_html(path, page)


def section_cells(section: Section) -> dict[str, Any]:
    """A section as templates read it; a cell is ("image", "audio" or "text", what the page embeds of it).

    Raises:
        InputError: media that a page cannot show.
    """
    return {
        "title": section.title,
        "note": section.note,
        "columns": section.columns,
        "rows": [(name, [(kind_of(section.title, m), shown(m)) for m in media]) for name, media in section.rows],
    }
