"""The graph of a run: pairs of nodes that must agree, targets, and the views which they ask of each node."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import combinations
from typing import Literal, get_args

from multicl.choices import check_settings
from multicl.objectives.info_nce import InfoNCE
from multicl.objectives.nt_xent import NTXent
from multicl.objectives.predicted import Predicted
from multicl.objectives.sup_con import SupCon
from multicl.objectives.wrapper import check_objective, extras_of, layers
from multicl.settings import Mine
from multicl.targets import Target
from multicl.types import InputError, Kind, Modality, MoreKeys, Objective


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
    """A column of labels, caption or image ids, one a row: rows of equal id are positives. Null, -1: unlabelled."""
    equal_ids: Literal["positive", "ignore"] = "positive"
    """"ignore": rows of equal id are neither positive nor negative."""
    negatives: str | None = None
    """A node whose rows arrive as explicit hard negatives of a's rows; null where a row has none."""
    target: str | None = None
    """A column that says how near a row's two should be: graded scores (CoSENT), or 0 and 1 (Margin); null: a row of
    which it is not known."""
    mine: Mine | None = None
    """Rows of a bring hard negatives found among all rows of b; of a pair of one node, among all others."""
    keys: Literal["online", "momentum"] = "online"
    """"momentum": what rows are compared with comes from a slowly moving copy of the towers (MoCo), and only the rows
    that ask get gradients."""
    queue: int = 0
    """So many of the last batches' keys are more negatives, for each side that has keys; 0: none."""
    draws: int = 2
    """Of a pair of one node: so many strong views, each compared with each."""
    local_draws: int = 0
    """Of a pair of one node: so many small views (multi-crop), which are compared with the strong ones alone."""
    crossed: bool = False
    """Of a pair of two nodes: two strong views are drawn, and the first of a is compared with the second of b, and the
    second of a with the first of b. Nodes of one column then look at two random views, not at one and the same."""
    space: str = "joint"
    """One projection head per (tower, space)."""
    keys_from: Literal["both", "all"] = "both"
    """"all": rows that lack one side are keys, too."""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", f"{self.a}-{self.b}")
        check_settings(self, f"pair {self.name!r}: ")
        check_objective(f"pair {self.name!r}", self.objective)
        if not 0 <= self.weight < math.inf:
            raise InputError(f"pair {self.name!r}: weight must be 0 or more, got {self.weight}")
        if self.queue < 0:
            raise InputError(f"pair {self.name!r}: queue must be 0 or more, got {self.queue}")
        if self.draws < 2 or self.local_draws < 0:
            raise InputError(
                f"pair {self.name!r}: draws must be 2 or more and local_draws 0 or more, got {self.draws} and "
                f"{self.local_draws}"
            )
        if (self.draws > 2 or self.local_draws) and not self.symmetric:
            raise InputError(f"pair {self.name!r}: several draws are for a pair of one node, not of two")
        if self.crossed and self.symmetric:
            raise InputError(f"pair {self.name!r}: crossed is for a pair of two nodes; one node's views differ anyway")
        if isinstance(self.objective, NTXent) and (self.keys == "momentum" or self.local_draws):
            raise InputError(
                f"pair {self.name!r}: NTXent knows no keys apart from its queries, as keys='momentum' and local_draws "
                "have them: use InfoNCE"
            )
        if not self.ids and any(isinstance(layer, SupCon) for layer in layers(self.objective)):
            raise InputError(
                f"pair {self.name!r}: SupCon's positives are rows of one label: give ids=, their column; or use InfoNCE"
            )
        predicted = any(isinstance(layer, Predicted) for layer in layers(self.objective))
        if predicted and self.keys != "momentum":
            raise InputError(f"pair {self.name!r}: a predictor stands before momentum keys: give keys='momentum'")
        if isinstance(self.objective, NTXent) and not self.symmetric:
            raise InputError(f"pair {self.name!r}: NTXent compares two views of one node; for two nodes, use InfoNCE")
        if getattr(self.objective, "own_negative", 1.0) != 1 and not self.negatives:
            raise InputError(
                f"pair {self.name!r}: own_negative={self.objective.own_negative} weighs a row's explicit negatives: "  # type: ignore[attr-defined]
                "give negatives=, their node"
            )
        self._check_extras()
        self._check_target()
        for name in (self.name, self.space):
            if not name.replace("-", "_").isidentifier():
                raise InputError(f"pair name or space {name!r}: use letters, digits, _ and -")

    def _check_extras(self) -> None:
        taken = extras_of(self.objective)
        if any(getattr(self, name) for name in get_args(MoreKeys) if name not in taken):
            *_, inner = layers(self.objective)
            what = "no explicit negatives" if "queue" in taken else "no queue and no explicit negatives"
            raise InputError(
                f"pair {self.name!r}: {type(inner).__name__} takes {what}: use a soft-max objective (InfoNCE)"
            )

    def _check_target(self) -> None:
        kind, what = getattr(self.objective, "scores", None), type(self.objective).__name__
        if kind == "graded" and not self.target:
            raise InputError(f"pair {self.name!r}: {what} orders rows by their scores: give target=, their column")
        if not self.target:
            return
        if kind is None:
            raise InputError(
                f"pair {self.name!r}: {what} takes no target; use CoSENT for graded scores, Margin for 0/1"
            )
        for name in ("ids", "negatives", "mine"):
            if getattr(self, name):
                raise InputError(
                    f"pair {self.name!r}: target= says of each row how near its two are; leave out {name}="
                )
        if self.symmetric:
            raise InputError(f"pair {self.name!r}: two views of one node are always near; target= is for two nodes")

    @property
    def symmetric(self) -> bool:
        """Both views are draws of one node."""
        return self.a == self.b

    @property
    def both_directions(self) -> bool:
        """Either side's rows ask; the objective may say that only a's do."""
        return bool(getattr(self.objective, "both_directions", True))

    @property
    def calls(self) -> tuple[Call, ...]:
        """What the objective is called with, one after the other; the pair's loss is their weighted sum."""
        return tuple(_calls(self))


Term = Pair | Target
"""What a run's loss is the weighted sum of."""


@dataclass(frozen=True)
class View:
    """One draw of a node; made once, however many pairs use it."""

    node: str
    kind: Kind
    draw: int
    mined: str = ""
    """Name of the pair whose mined rows these are; empty: the batch's own rows."""


@dataclass(frozen=True)
class Call:
    """One comparison of a pair."""

    a: View
    b: View
    both: bool = True
    """Either side's rows ask; False: a's alone, and b's are their keys."""
    weight: float = 1.0
    momentum: bool = False
    """The rows of b come from the momentum towers."""


def _calls(pair: Pair) -> Iterator[Call]:
    views: list[View] = []
    if pair.symmetric:
        views = [View(pair.a, "strong", draw) for draw in range(pair.draws)]
        compared = list(combinations(views, 2))
    elif pair.crossed:
        compared = [(View(pair.a, "strong", draw), View(pair.b, "strong", 1 - draw)) for draw in range(2)]
    else:
        compared = [(View(pair.a, "weak", 0), View(pair.b, "weak", 0))]
    crops = [View(pair.a, "local", draw) for draw in range(pair.local_draws)]
    ways: list[Call] = []
    for first, second in compared:
        if pair.keys == "online":
            ways.append(Call(first, second))
        else:
            ways.append(Call(first, second, both=False, momentum=True))
            if pair.both_directions:
                ways.append(Call(second, first, both=False, momentum=True))
    ways += [Call(crop, view, both=False, momentum=pair.keys == "momentum") for crop in crops for view in views]
    shares = [2 if way.both else 1 for way in ways]  # every direction weighs the same
    for way, share in zip(ways, shares, strict=True):
        yield replace(way, weight=share / sum(shares))


def full_graph(*nodes: str, objective: Objective | None = None) -> list[Pair]:
    """Every pair of the nodes (CMC's full graph, arXiv:1906.05849, section 3.4)."""
    return [Pair(a, b, objective or InfoNCE()) for a, b in combinations(nodes, 2)]


def core_view(core: str, *, of: str | Sequence[str], objective: Objective | None = None) -> list[Pair]:
    """The core paired with each other node, or with one (CMC's core view)."""
    return [Pair(core, other, objective or InfoNCE()) for other in ([of] if isinstance(of, str) else of)]


def requested_views(terms: Sequence[Term], momentum: bool = False) -> dict[View, tuple[str | None, ...]]:
    """Every view that the graph asks for, in the order of the terms -> the spaces it is projected into.

    The space None is the encoder's features, for targets.

    Args:
        momentum: the views that the momentum towers embed, instead of those that train.
    """
    spaces: dict[View, dict[str | None, None]] = {}
    for term in terms:
        if isinstance(term, Target):
            if not momentum:
                spaces.setdefault(target_view(term, terms), {})[None] = None
            continue
        for call in term.calls:
            if not momentum:
                spaces.setdefault(call.a, {})[term.space] = None
            if momentum == call.momentum:
                spaces.setdefault(call.b, {})[term.space] = None
        if term.negatives and not momentum:
            spaces.setdefault(negatives_view(term), {})[term.space] = None
        if term.mine and not momentum:
            spaces.setdefault(mined_view(term), {})[term.space] = None
    return {view: tuple(names) for view, names in spaces.items()}


def negatives_view(pair: Pair) -> View:
    """The view that brings a pair's explicit negatives."""
    assert pair.negatives
    return View(pair.negatives, "weak", 0)


def mined_view(pair: Pair) -> View:
    """The view that brings a pair's mined negatives."""
    assert pair.mine
    return View(pair.b, "strong" if pair.symmetric else "weak", 0, pair.name)


def target_view(target: Target, terms: Sequence[Term]) -> View:
    """The view that a target looks at: the first strong one where a pair asks for it, which then costs nothing more.

    A weak one elsewhere: beside captions, it is the one that is made, too.
    """
    strong = View(target.node, "strong", 0)
    asked = any(strong in (call.a, call.b) for pair in pairs_of(terms) for call in pair.calls)
    return strong if asked else View(target.node, "weak", 0)


def pairs_of(terms: Sequence[Term]) -> list[Pair]:
    """The pairs among the terms."""
    return [term for term in terms if isinstance(term, Pair)]


def targets_of(terms: Sequence[Term]) -> list[Target]:
    """The targets among the terms."""
    return [term for term in terms if isinstance(term, Target)]


def check_graph(modalities: Mapping[str, Modality], terms: Sequence[Term]) -> None:
    """Refuse a graph that cannot be trained.

    Raises:
        InputError: nodes without names; no term, one in place of a list, or what is none; one that names an unknown
            node; two of one name; a node in none, or that is an encoder without its adapter.
    """
    if not isinstance(modalities, Mapping):
        raise InputError(f"modalities must be a dict, node -> adapter, got a {type(modalities).__name__}")
    if isinstance(terms, Pair | Target):
        raise InputError(f"terms must be a list, as [{type(terms).__name__}(...)], got {terms.name!r} alone")
    for node, modality in modalities.items():
        if not callable(getattr(modality, "build", None)):
            kind = repr(modality) if isinstance(modality, str) else type(modality).__name__
            raise InputError(f"node {node!r} is {kind}; give an encoder to its adapter, as Image(...) or Text(...)")
    for term in terms:
        if not isinstance(term, Pair | Target):
            raise InputError(f"a term must be Pair(...) or Target(...), got {term!r}")
    if not terms:
        raise InputError("there is nothing to train: terms is empty; give at least one Pair or Target")
    for node in modalities:
        if not node.replace("-", "_").isidentifier():
            raise InputError(f"node {node!r}: use letters, digits, _ and -")
    for term in terms:
        for node in _nodes(term):
            if node not in modalities:
                near = get_close_matches(node, modalities, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                kind = "target" if isinstance(term, Target) else "pair"
                raise InputError(f"{kind} {term.name!r} names {node!r}, but the nodes are {sorted(modalities)}{hint}")
    names = [term.name for term in terms]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        kind = "terms" if targets_of(terms) else "pairs"
        raise InputError(f"two {kind} are named {twice[0]!r}: give one of them another name=")
    if alone := set(modalities) - {node for term in terms for node in _nodes(term)}:
        raise InputError(f"no pair uses {sorted(alone)}: add a Pair or leave the modality out")


def _nodes(term: Term) -> list[str]:
    if isinstance(term, Target):
        return [term.node]
    return [node for node in (term.a, term.b, term.negatives) if node]


def tower_of(node: str, modality: Modality) -> str:
    """The tower whose weights a node uses."""
    return modality.tower or node


def column_of(node: str, modality: Modality) -> str:
    """The column of the rows that a node reads."""
    return modality.column or node
