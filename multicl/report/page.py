"""One self-contained HTML page: a space of embeddings with the things themselves, and what searches find.

The page opens from a disk without a network: style, script and media are inside it, and its content policy lets it
load nothing and run nothing else. Layout and behaviour lie beside this file in page.html, page.css and *.js.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from multicl.report.items import Item, Search, Store, search_data
from multicl.report.parts import joined, paragraphs, save_html, script_hash, script_of, template
from multicl.report.plane import maps_of, near_of
from multicl.types import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Item", "Search", "write_page"]


def write_page(
    path: Path,
    *,
    title: str,
    intro: str,
    table: Mapping[str, Mapping[str, float]],
    items: Sequence[Item],
    searches: Sequence[Search],
    notes: Sequence[str],
    credits: Sequence[str],
) -> Path:
    """Write the page; equal input gives equal bytes.

    Args:
        path: the HTML file; its folder is created, an existing file is replaced.
        title: headline and window title.
        intro: paragraphs, separated by empty lines.
        table: row -> column -> share in [0, 1], shown as percent; the first row is the headline.
        items: drawn on the map, by their principal components; empty: no map.
        searches: one card each; their items may or may not be on the map; empty: no cards.
        notes: how the figures were measured, a paragraph each.
        credits: sources and licences, at the foot.

    Returns:
        `path`.

    Raises:
        InputError: a share outside [0, 1], vectors that differ in width or are not finite, media that a page cannot
            show, or a search whose `right` is not as long as what it found.
    """
    for row, cells in table.items():
        for column, share in cells.items():
            if not 0 <= share <= 1:
                raise InputError(f"table[{row!r}][{column!r}] must be a share in [0, 1], got {share}")
    script = script_of("page.js", "map.js", "searches.js")
    html = template("page.html").render(
        title=title,
        paragraphs=paragraphs(intro),
        table=table,
        columns=list(dict.fromkeys(column for cells in table.values() for column in cells)),
        has_map=bool(items),
        has_searches=bool(searches),
        notes=notes,
        credits=credits,
        style=Markup(joined("page.css")),  # these two are ours; all else is escaped
        script=Markup(script),
        script_hash=script_hash(script),
        data=space_data(items, {"searches": searches}),
    )
    return save_html(path, html)


def space_data(
    items: Sequence[Item], searches: Mapping[str, Sequence[Search]], *, umap: bool = False
) -> dict[str, Any]:
    """What a page's script reads: things, maps, neighbours, and searches under their names.

    Args:
        umap: as in `plane.maps_of`.

    Raises:
        InputError: as in `write_page`, except for shares.
    """
    store = Store()
    for item in items:
        store.add(item)
    found = {name: [search_data(store, search) for search in part] for name, part in searches.items()}
    return {"maps": maps_of(items, umap), "near": near_of(items), **found, **store.data()}
