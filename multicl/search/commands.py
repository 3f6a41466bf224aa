"""What `multicl index` and `multicl search` do and print."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from multicl.files import check_writable
from multicl.model import space_named
from multicl.report.gallery import Section, write_gallery
from multicl.search.approximate import EXACT_BELOW
from multicl.search.fill import Added
from multicl.search.index import Hit, Index

SHOWN = 48
"""Most characters of a cell in a printed row."""


def index(
    name: str,
    data: Any,
    out: str,
    *,
    split: str = "train",
    columns: Mapping[str, str] | None = None,
    space: str | None = None,
    batch_size: int = 128,
    on_error: Literal["skip", "raise"] = "skip",
    exact_below: int | None = None,
) -> Added:
    """Fill a database and print what was added; launched by Accelerate, every rank does its share.

    Args:
        name: a run, a model or a hub name. out: the database. exact_below: see `Index.add`; None: 50,000.
        space: a space's name, or "features" for the encoder's own; None: the recipe's choice.
        data, split, columns, batch_size, on_error: as in `Index.add`.

    Raises:
        InputError: as `Index` and `Index.add`.
    """
    from multicl.running.accelerator import meet

    meet()
    there = Index(out, name, space=space_named(space))
    added = there.add(
        data, split=split, columns=columns, batch_size=batch_size, on_error=on_error,
        exact_below=EXACT_BELOW if exact_below is None else exact_below,
    )  # fmt: skip
    if there.world.rank == 0:
        say = f"{added.rows} rows of {', '.join(added.nodes)}: {added.new} added"
        say += f", {added.known} already there" if added.known else ""
        say += f" ({added.moved} of them moved)" if added.moved else ""
        say += f", {added.repeats} copies of others" if added.repeats else ""
        say += f", {added.gone} removed that are no longer in the data" if added.gone else ""
        print(say + (f", {len(added.skipped)} cells left out" if added.skipped else ""))
        for line in added.skipped[:5]:
            print(f"  left out: {line}")
        for node, kept in there.about.approximate.items():
            print(f"{node}: approximate index of {kept.parts} parts, {kept.probes} probed: recall@10 {kept.recall:.3f}")
        print(f"{out}: {len(there)} rows")
    return added


def search(
    db: str,
    query: Any,
    *,
    model: str | None = None,
    node: str | None = None,
    among: Sequence[str] | None = None,
    where: str | None = None,
    k: int = 10,
    exact: bool = False,
    html: Path | None = None,
) -> dict[str, list[Hit]]:
    """Print what a query finds, and a last line `RESULT {json}`; or write it as a page.

    Args and errors as in `Index.search`. model: where the model is now, if it has moved. html: the page's file.
    """
    there = Index(db, model)
    if html is not None:
        check_writable(html, "or give another --html")
    found = there.search(query, node=node, among=among, where=where, k=k, exact=exact)
    readers, _ = there.asked_as(query, node)
    others = f" (--node {' or '.join(readers[1:])} reads it differently)" if readers[1:] else ""
    print(f"query read as {readers[0]}{others}")
    if html is not None:
        title = str(query) if len(str(query)) <= 2 * SHOWN else f"{str(query)[: 2 * SHOWN]}…"
        write_gallery(html, title=title, intro=f"The nearest in {db}.", sections=sections(found))
        print(f"written: {html}")
        return found
    for target, hits in found.items():
        print(f"\nnearest by {target}:" + ("" if hits else " nothing"))
        if hits:
            print(*lines(hits), sep="\n")
    plain = {t: [{"score": round(h.score, 4), **h.row} for h in hits] for t, hits in found.items()}
    print("RESULT " + json.dumps({"asked_as": readers[0], "found": plain}, ensure_ascii=False), flush=True)
    return found


def lines(hits: Sequence[Hit]) -> list[str]:
    """Rows as aligned text: score, number, plain columns."""
    names = _columns(hits, "id")
    table = [["score", *names], *([f"{h.score:.3f}", *(_short(h.row.get(name)) for name in names)] for h in hits)]
    wide = [max(len(line[i]) for line in table) for i in range(len(names) + 1)]
    return ["  ".join(f"{c:<{w}}" for c, w in zip(line, wide, strict=True)).rstrip() for line in table]


def sections(found: Mapping[str, Sequence[Hit]]) -> list[Section]:
    """The hits as sections of a page: one for each node, with a row for each hit's media and plain columns."""
    made = []
    for target, hits in found.items():
        media = list(dict.fromkeys(node for hit in hits for node in hit.previews))
        plain = _columns(hits, "id", "row")
        rows = [(f"{hit.row['row']}", [_medium(hit, name) for name in ("score", *media, *plain)]) for hit in hits]
        made.append(Section(f"Nearest by {target}", ["score", *media, *plain], rows, "" if hits else "Nothing."))
    return made


def _columns(hits: Sequence[Hit], *but: str) -> list[str]:
    """The plain columns that any row has, except those in `but`."""
    return list(dict.fromkeys(name for hit in hits for name in hit.row if name not in but))


def _medium(hit: Hit, name: str) -> tuple[str, bytes]:
    if name in hit.previews:
        return hit.previews[name]
    cell = f"{hit.score:.3f}" if name == "score" else hit.row.get(name)
    return "text/plain", ("" if cell is None else str(cell)).encode("utf-8", "replace")


def _short(cell: Any) -> str:
    text = "" if cell is None else f"{cell:.4g}" if isinstance(cell, float) else " ".join(str(cell).split())
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
