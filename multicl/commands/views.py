"""`multicl views`: a page of a recipe's data and their random views."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from multicl.data.cells import resolve_path
from multicl.data.loading import open_data
from multicl.data.reader import Reader, sources_of
from multicl.files import check_writable
from multicl.graph import check_graph, requested_views
from multicl.launcher import is_main
from multicl.report.gallery import Section, write_gallery
from multicl.run import Run
from multicl.seeds import row_seeds
from multicl.types import InputError, Kind, Modality, Shows

LOOKED_AT = 1000
"""Rows in which `views` searches for some that have a source's column."""


def views(recipe: Run, out: Path, *, rows: int = 8, draws: int = 4) -> Path:
    """Write a page of the recipe's data and their random views, with the draws of its first epoch; returns `out`.

    With several processes, only the first does the work.

    Args:
        out: the HTML file. rows, draws, and errors: as `view_sections`.
    """
    if not is_main():
        return out
    check_writable(out, "or give another --out")
    sections = view_sections(recipe, rows=rows, draws=draws)
    intro = "What the encoders see and hear: things as they are, and random views of them."
    write_gallery(out, title="Views", intro=intro, sections=sections)
    print(f"written: {out}")
    return out


def view_sections(recipe: Run, *, rows: int = 8, draws: int = 4) -> list[Section]:
    """One section for each source of the graph, with the kinds of views that the pairs request of its nodes.

    Args:
        rows: rows shown of each source. draws: views of each kind.

    Raises:
        InputError: the data are a stream, or lack a column; `rows` or `draws` is less than 1.
    """
    if rows < 1 or draws < 1:
        raise InputError(f"--rows and --draws must be 1 or more, got {rows} and {draws}")
    given, modalities, terms = recipe.rows(), recipe.modalities(), recipe.terms()
    check_graph(modalities, terms)
    data, _ = open_data(given)
    if data.streaming:
        raise InputError(f"{data.label} is a stream, of which views are not shown: leave --data.streaming out")
    reader = Reader(data, modalities, [], recipe.train.seed)
    kinds: dict[str, dict[Kind, None]] = {source: {} for source in reader.modalities}
    sources = sources_of(modalities)
    for view in [*requested_views(terms), *requested_views(terms, momentum=True)]:
        kinds[sources[view.node]][view.kind] = None
    sections = []
    for source, modality in reader.modalities.items():
        nodes = ", ".join(node for node in modalities if sources[node] == source)
        sections.append(_views_of(reader, source, modality, list(kinds[source]), nodes, rows, draws))
    return sections


def _views_of(
    reader: Reader, source: str, modality: Modality, kinds: list[Kind], nodes: str, rows: int, draws: int
) -> Section:
    present: list[int] = []
    why = ""
    for start in range(0, min(len(reader.rows), LOOKED_AT), rows):
        part = reader.slice(reader.rows.numbers()[start : start + rows].tolist(), 0)
        batch = part.batches[source]
        present += [] if batch is None else batch.row.tolist()
        why = why or next((f": {lost}" for lost in part.skipped if lost.column == reader.columns[source]), "")
        if len(present) >= rows:
            break
    column = reader.columns[source]
    if not present:
        raise InputError(f"column {column!r} of {reader.rows.label} has nothing to show in its first rows{why}")
    batch = reader.slice(present[:rows], 0).batches[source]
    assert batch is not None
    numbers = batch.row.tolist()
    cells = [row.get(column) for row in reader.rows.fetch(numbers, [column])]
    bases = [reader.rows.base_of(n) if modality.files else None for n in numbers]
    given = list(map(resolve_path, cells, bases))
    media = [[modality.preview(cell) for cell in given]]
    columns, note = ["as it is"], ""
    if isinstance(modality, Shows):
        for kind, draw in product(kinds, range(draws)):
            seeds = row_seeds(batch.row, reader.seed, 0, source, kind, draw)
            media.append(modality.show(modality.view(batch, seeds, kind)))
            columns.append(f"{kind} {draw}")
    else:
        note = f"{type(modality).__name__} has no views to show; dropout in its encoder may still make them differ."
    named = [(str(n), list(shown)) for n, shown in zip(numbers, zip(*media, strict=True), strict=True)]
    return Section(nodes, columns, named, note)
