"""One self-contained HTML page: a space of embeddings with the things themselves, and what searches find.

The page opens from a disk without a network: style, script and media are inside it, and its content policy lets it
ask for nothing and run nothing else. Layout and behaviour live beside this file in page.html, page.css and *.js.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import torch
from markupsafe import Markup
from torch import Tensor
from torch.nn import functional as F

from multicl.types import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MEDIA = re.compile(r"(image|audio)/[a-z0-9.+-]+(;\s*codecs=[\w.,-]+)?", re.IGNORECASE)
NEAR = 3
"""Neighbours shown of each other node."""


@dataclass(frozen=True)
class Item:
    """One thing with its place in the space."""

    node: str
    """The modality it belongs to, as a reader should see it ("speech")."""
    label: str
    """What it is about; items of one label are shown to belong together. For words without media, the words."""
    vector: Sequence[float] | Tensor
    """[D] embedding of any length; the page is about its direction."""
    media: tuple[str, bytes] | None = None
    """(MIME type, bytes): `image/*` is drawn, `audio/*` is played, `text/plain` (UTF-8) is written."""
    split: str = ""
    """Where it comes from ("test", "left-out speaker"); shown with it."""


@dataclass(frozen=True)
class Search:
    """One query and what it found, best first."""

    query: Item
    found: Sequence[tuple[Item, float]]
    """(item, similarity)."""
    right: Sequence[bool]
    """Whether each found item is a true one."""


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
        path: of the HTML file; its folder is made, a file that is there is replaced.
        title: headline and window title.
        intro: paragraphs, split at empty lines.
        table: row -> column -> share in [0, 1], shown as percent; the first row is the headline.
        items: drawn on the map, by their principal components. None: no map.
        searches: one card each; their items may or may not be on the map. None: no cards.
        notes: how the figures came about, a paragraph each.
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
    store = _Store()
    for item in items:
        store.add(item)
    found = [_search(store, search) for search in searches]
    data = {"maps": _maps(items), "near": _near(items), "searches": found, **store.data()}
    here = resources.files(__package__)
    html, style, *parts = (
        (here / name).read_text(encoding="utf-8")
        for name in ("page.html", "page.css", "page.js", "map.js", "searches.js")
    )
    script = "\n".join(['"use strict";', "{", *parts, "}", ""])
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    html = environment.from_string(html).render(
        title=title,
        paragraphs=[p for p in re.split(r"\n\s*\n", intro.strip()) if p],
        table=table,
        columns=list(dict.fromkeys(column for cells in table.values() for column in cells)),
        has_map=bool(items),
        has_searches=bool(searches),
        notes=notes,
        credits=credits,
        style=Markup(style),  # these two are ours; all else is escaped
        script=Markup(script),
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
        data=data,  # the template's `tojson` escapes <, >, & and '
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8", newline="\n")  # the script's hash holds on Windows, too
    return path


class _Store:
    """Things and their media, each kept once and known by number."""

    def __init__(self) -> None:
        self.nodes: dict[str, str] = {}  # node -> kind of its first thing
        self.media: dict[tuple[str, bytes], int] = {}
        self.things: list[dict[str, Any]] = []
        self.seen: dict[int, tuple[int, Item]] = {}  # by identity; the item is held so that its id stays its own

    def add(self, item: Item) -> int:
        """The number of this very item; a new one if it was not seen before."""
        if id(item) in self.seen:
            return self.seen[id(item)][0]
        mime, content = item.media or ("text/plain", item.label.encode())
        thing: dict[str, Any] = {"label": item.label, "split": item.split}
        if mime.split(";")[0] == "text/plain":
            kind, thing["text"] = "text", content.decode("utf-8", errors="replace")
        elif MEDIA.fullmatch(mime) and content:
            kind = mime.split("/")[0].lower()
            thing["media"] = self.media.setdefault((mime, content), len(self.media))
        else:
            size = f"{len(content)} bytes"
            raise InputError(
                f"{item.node} {item.label!r}: a page shows image/*, audio/* and text/plain, got {mime}, {size}"
            )
        self.nodes.setdefault(item.node, kind)
        thing |= {"kind": kind, "node": list(self.nodes).index(item.node)}
        self.seen[id(item)] = (len(self.things), item)
        self.things.append(thing)
        return len(self.things) - 1

    def data(self) -> dict[str, Any]:
        """What the script reads."""
        return {
            "nodes": [{"name": name, "kind": kind} for name, kind in self.nodes.items()],
            "things": self.things,
            "media": [f"data:{mime};base64,{base64.b64encode(content).decode()}" for mime, content in self.media],
        }


def _search(store: _Store, search: Search) -> dict[str, Any]:
    asked, n = search.query.label, len(search.found)
    if n != len(search.right):
        raise InputError(f"a search for {asked!r} found {n} but judges {len(search.right)}")
    found = []
    for (item, score), right in zip(search.found, search.right, strict=True):
        if not math.isfinite(score):
            raise InputError(f"a search for {asked!r} scores {item.label!r} {score}")
        found.append([store.add(item), round(float(score), 4), int(right)])
    return {"query": store.add(search.query), "found": found}


def _vectors(items: Sequence[Item]) -> tuple[Tensor, Tensor]:
    """Unit vectors [N, D] float64, and the node of each as a number [N]."""
    rows = [torch.as_tensor(item.vector).detach().to("cpu", torch.float64) for item in items]
    for item, row in zip(items, rows, strict=True):
        if row.shape != rows[0].shape or row.ndim != 1:
            raise InputError(f"{item.node} {item.label!r} has a vector {list(row.shape)}, others {list(rows[0].shape)}")
        if not torch.isfinite(row).all():
            raise InputError(f"{item.node} {item.label!r} has a vector with NaN or infinite values")
    nodes = {node: i for i, node in enumerate(dict.fromkeys(item.node for item in items))}
    return F.normalize(torch.stack(rows), dim=1), torch.tensor([nodes[item.node] for item in items])


def _maps(items: Sequence[Item]) -> list[dict[str, Any]]:
    """The two plane views: as they are, and with every node's mean taken away (the modality gap closed)."""
    if not items:
        return []
    x, node = _vectors(items)
    centred = x.clone()
    for n in torch.unique(node):
        centred[node == n] -= x[node == n].mean(dim=0)
    plain, share = _plane(x)
    apart, share_centred = _plane(centred)
    apart *= torch.where((plain * apart).sum(dim=0) < 0, -1, 1)  # axes have no sign of their own: turn least
    views = (("as they are", plain, share), ("each modality centred", apart, share_centred))
    return [
        {"name": name, "share": round(kept, 4), "at": [round(v, 4) + 0.0 for v in _fit(at).flatten().tolist()]}
        for name, at, kept in views
    ]


def _plane(x: Tensor) -> tuple[Tensor, float]:
    """First two principal components [N, 2], and the share of the variance that they hold."""
    x = x - x.mean(dim=0)
    _, values, axes = torch.linalg.svd(x, full_matrices=False)
    at = F.pad(x @ axes[:2].T, (0, max(0, 2 - len(axes))))
    at *= torch.where(at.gather(0, at.abs().argmax(dim=0, keepdim=True)) < 0, -1, 1)  # the same signs every time
    power = values.square()
    return at, float(power[:2].sum() / power.sum().clamp(min=1e-12))


def _fit(at: Tensor) -> Tensor:
    """Into [-1, 1]: middle of the box at 0, one scale for both axes."""
    low, high = at.amin(dim=0), at.amax(dim=0)
    return (at - (low + high) / 2) / ((high - low).max() / 2).clamp(min=1e-12)


def _near(items: Sequence[Item]) -> list[list[list[float]]]:
    """For each item the nearest `NEAR` of each other node, [number, cosine], in the space itself and not the plane."""
    if not items:
        return []
    x, node = _vectors(items)
    cos = x @ x.T
    near: list[list[list[float]]] = [[] for _ in items]
    for n in torch.unique(node):
        members = (node == n).nonzero()[:, 0]
        values, index = cos[:, members].topk(min(NEAR, len(members)), dim=1)
        for i in (node != n).nonzero()[:, 0].tolist():
            pairs = zip(members[index[i]].tolist(), values[i].tolist(), strict=True)
            near[i] += [[j, round(value, 3)] for j, value in pairs]
    return near
