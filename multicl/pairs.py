"""The graph of a run: pairs of nodes that must agree, and the views which that asks of each node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import combinations
from typing import Literal

from multicl.objectives.info_nce import InfoNCE
from multicl.objectives.nt_xent import NTXent
from multicl.types import InputError, Kind, Modality, Objective


@dataclass(frozen=True)
class Pair:
    """An edge of the graph: two views that must agree.

    `Pair("image", "image")` asks for two strong views of each image (SimCLR); `Pair("image", "text")` for one weak view
    of each (CLIP), over the rows that have both.
    """

    a: str
    b: str
    objective: Objective = field(default_factory=InfoNCE)
    name: str = ""
    """Default "a-b"."""
    weight: float = 1.0
    ids: str | None = None
    """A column of labels, caption or image ids: rows of equal id are positives of each other. Null, -1: unlabelled."""
    equal_ids: Literal["positive", "ignore"] = "positive"
    """"ignore": rows of equal id are neither positive nor negative."""
    space: str = "joint"
    """One projection head per (tower, space)."""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", f"{self.a}-{self.b}")
        if not self.weight >= 0:
            raise InputError(f"pair {self.name!r}: weight must be 0 or more, got {self.weight}")
        if isinstance(self.objective, NTXent) and not self.symmetric:
            raise InputError(f"pair {self.name!r}: NTXent compares two views of one node; for two nodes, use InfoNCE")
        for name in (self.name, self.space):
            if not name.replace("-", "_").isidentifier():
                raise InputError(f"pair name or space {name!r}: use letters, digits, _ and -")

    @property
    def symmetric(self) -> bool:
        """Both views are draws of one node."""
        return self.a == self.b

    @property
    def views(self) -> tuple[View, View]:
        """The two views that this pair compares."""
        if self.symmetric:
            return View(self.a, "strong", 0), View(self.b, "strong", 1)
        return View(self.a, "weak", 0), View(self.b, "weak", 0)


@dataclass(frozen=True)
class View:
    """One draw of a node; made once, however many pairs use it."""

    node: str
    kind: Kind
    draw: int


def full_graph(*nodes: str, objective: Objective | None = None) -> list[Pair]:
    """Every pair of the nodes (CMC's full graph, arXiv:1906.05849, section 3.4)."""
    return [Pair(a, b, objective or InfoNCE()) for a, b in combinations(nodes, 2)]


def core_view(core: str, *, of: Sequence[str], objective: Objective | None = None) -> list[Pair]:
    """The core paired with each other node (CMC's core view)."""
    return [Pair(core, other, objective or InfoNCE()) for other in of]


def requested_views(terms: Sequence[Pair]) -> dict[View, tuple[str, ...]]:
    """Every view that the graph asks for, in the order of the terms -> the spaces it is projected into."""
    spaces: dict[View, dict[str, None]] = {}
    for pair in terms:
        for view in pair.views:
            spaces.setdefault(view, {})[pair.space] = None
    return {view: tuple(names) for view, names in spaces.items()}


def check_graph(modalities: Mapping[str, Modality], terms: Sequence[Pair]) -> None:
    """Refuse a graph that cannot be trained.

    Raises:
        InputError: no pair; a pair that names an unknown node; two pairs of one name; a node in no pair.
    """
    if not terms:
        raise InputError("there is nothing to train: terms is empty; give at least one Pair")
    for node in modalities:
        if not node.replace("-", "_").isidentifier():
            raise InputError(f"node {node!r}: use letters, digits, _ and -")
    for pair in terms:
        for node in (pair.a, pair.b):
            if node not in modalities:
                near = get_close_matches(node, modalities, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise InputError(f"pair {pair.name!r} names {node!r}, but the nodes are {sorted(modalities)}{hint}")
    names = [pair.name for pair in terms]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"two pairs are named {twice[0]!r}: give one of them another name=")
    if alone := set(modalities) - {node for pair in terms for node in (pair.a, pair.b)}:
        raise InputError(f"no pair uses {sorted(alone)}: add a Pair or leave the modality out")


def tower_of(node: str, modality: Modality) -> str:
    """The tower whose weights a node uses."""
    return modality.tower or node


def column_of(node: str, modality: Modality) -> str:
    """The column of the rows that a node reads."""
    return modality.column or node
