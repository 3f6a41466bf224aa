"""The things that a page shows, and how they are passed to its script: each once, referred to by its number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multicl.report.media import Medium, kind_of, shown
from multicl.types import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Item:
    """One thing with its place in the space."""

    node: str
    """The modality it belongs to, in the reader's words ("speech")."""
    label: str
    """What it is about; items of equal label are shown as belonging together. Without media: the text itself."""
    vector: Sequence[float] | Tensor
    """[D] embedding of any norm; the page shows its direction."""
    media: Medium | None = None
    """None: the label, as a text."""
    split: str = ""
    """Where it comes from ("test", "left-out speaker"); shown with it."""
    credit: str = ""
    """Its author and licence, where the data name them; shown with it."""
    group: str = ""
    """What it is coloured by, such as its class; empty: its node."""


@dataclass(frozen=True)
class Search:
    """One query and what it found, best first."""

    query: Item
    found: Sequence[tuple[Item, float]]
    """(item, similarity)."""
    right: Sequence[bool]
    """Whether each found item is a correct result."""


class Store:
    """Things and their media, each kept once and referred to by its number."""

    def __init__(self) -> None:
        self.nodes: dict[str, str] = {}  # node -> kind of its first thing
        self.groups: dict[str, int] = {}
        self.media: dict[Medium, int] = {}
        self.things: list[dict[str, Any]] = []
        self.seen: dict[int, tuple[int, Item]] = {}  # by id(), unique as long as the item is held here

    def add(self, item: Item) -> int:
        """The number of this item; a new one the first time."""
        if id(item) in self.seen:
            return self.seen[id(item)][0]
        medium = item.media or ("text/plain", item.label.encode())
        thing: dict[str, Any] = {"label": item.label, "split": item.split}
        if item.credit:
            thing["credit"] = item.credit
        if item.group:
            thing["group"] = self.groups.setdefault(item.group, len(self.groups))
        kind = kind_of(f"{item.node} {item.label!r}", medium)
        if kind == "text":
            thing["text"] = shown(medium)
        else:
            thing["media"] = self.media.setdefault(medium, len(self.media))
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
            "media": [shown(medium) for medium in self.media],
        }


def search_data(store: Store, search: Search) -> dict[str, Any]:
    """A search as the script reads it.

    Raises:
        InputError: `right` is not as long as `found`, a score is not finite, or media that a page cannot show.
    """
    asked, n = search.query.label, len(search.found)
    if n != len(search.right):
        raise InputError(f"a search for {asked!r} found {n} but judges {len(search.right)}")
    found = []
    for (item, score), right in zip(search.found, search.right, strict=True):
        if not math.isfinite(score):
            raise InputError(f"a search for {asked!r} scores {item.label!r} {score}")
        found.append([store.add(item), round(float(score), 4), int(right)])
    return {"query": store.add(search.query), "found": found}
