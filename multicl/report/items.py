"""The things that a page shows, and how they travel to its script: each kept once, known by number."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multicl.types import InputError

if TYPE_CHECKING:
    from torch import Tensor

MEDIA = re.compile(r"(image|audio)/[a-z0-9.+-]+(;\s*codecs=[\w.,-]+)?", re.IGNORECASE)


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
    credit: str = ""
    """Whose it is and under which licence, where the data say so; shown with it."""
    group: str = ""
    """What it is coloured by, where that is not its node: its class, say."""


@dataclass(frozen=True)
class Search:
    """One query and what it found, best first."""

    query: Item
    found: Sequence[tuple[Item, float]]
    """(item, similarity)."""
    right: Sequence[bool]
    """Whether each found item is a true one."""


class Store:
    """Things and their media, each kept once and known by number."""

    def __init__(self) -> None:
        self.nodes: dict[str, str] = {}  # node -> kind of its first thing
        self.groups: dict[str, int] = {}
        self.media: dict[tuple[str, bytes], int] = {}
        self.things: list[dict[str, Any]] = []
        self.seen: dict[int, tuple[int, Item]] = {}  # by identity; the item is held so that its id stays its own

    def add(self, item: Item) -> int:
        """The number of this very item; a new one if it was not seen before."""
        if id(item) in self.seen:
            return self.seen[id(item)][0]
        mime, content = item.media or ("text/plain", item.label.encode())
        thing: dict[str, Any] = {"label": item.label, "split": item.split}
        if item.credit:
            thing["credit"] = item.credit
        if item.group:
            thing["group"] = self.groups.setdefault(item.group, len(self.groups))
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
            "groups": list(self.groups),
            "media": [f"data:{mime};base64,{base64.b64encode(content).decode()}" for mime, content in self.media],
        }


def search_data(store: Store, search: Search) -> dict[str, Any]:
    """A search as the script reads it; InputError where it is judged another number of times than it found."""
    asked, n = search.query.label, len(search.found)
    if n != len(search.right):
        raise InputError(f"a search for {asked!r} found {n} but judges {len(search.right)}")
    found = []
    for (item, score), right in zip(search.found, search.right, strict=True):
        if not math.isfinite(score):
            raise InputError(f"a search for {asked!r} scores {item.label!r} {score}")
        found.append([store.add(item), round(float(score), 4), int(right)])
    return {"query": store.add(search.query), "found": found}
