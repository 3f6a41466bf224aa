"""The graph of a run: its pairs and targets, the views that they need of each node, and checks before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import combinations

from multicl.objectives.info_nce import InfoNCE
from multicl.pairs import Pair, View, mined_view, negatives_view
from multicl.targets import Target
from multicl.types import InputError, Modality, Objective

Term = Pair | Target
"""A run's loss is the weighted sum over its terms."""


def full_graph(*nodes: str, objective: Objective | None = None) -> list[Pair]:
    """Every pair of the nodes (CMC's full graph, arXiv:1906.05849, section 3.4)."""
    return [Pair(a, b, objective or InfoNCE()) for a, b in combinations(nodes, 2)]


def core_view(core: str, *, of: str | Sequence[str], objective: Objective | None = None) -> list[Pair]:
    """Pairs of the core with each of the other nodes (CMC's core view)."""
    return [Pair(core, other, objective or InfoNCE()) for other in ([of] if isinstance(of, str) else of)]


def requested_views(terms: Sequence[Term], momentum: bool = False) -> dict[View, tuple[str | None, ...]]:
    """Every view that the graph needs, in the order of the terms -> the spaces that it is projected into.

    The space None is the encoder's features, for targets.

    Args:
        momentum: give the views that the momentum towers embed, instead of those of the trained towers.
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


def target_view(target: Target, terms: Sequence[Term]) -> View:
    """The view that a target reads: the first strong one if a pair uses it, so that it costs nothing extra.

    Otherwise the weak one, which a pair of two nodes, such as images and captions, uses too.
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
        InputError: modalities are not a dict; terms are empty, not a list, or not all terms; a term names an unknown
            node; two terms have one name; a node has an invalid name, is in no term, or is not an adapter.
    """
    if not isinstance(modalities, Mapping):
        raise InputError(f"modalities must be a dict, node -> adapter, got {type(modalities).__name__}")
    if isinstance(terms, Pair | Target):
        raise InputError(f"terms must be a list, such as [{type(terms).__name__}(...)], got only {terms.name!r}")
    for node, modality in modalities.items():
        if not callable(getattr(modality, "build", None)):
            kind = repr(modality) if isinstance(modality, str) else type(modality).__name__
            raise InputError(
                f"node {node!r} is {kind}, not an adapter: give the encoder to one, as in Image(...) or Text(...)"
            )
    for term in terms:
        if not isinstance(term, Pair | Target):
            raise InputError(f"a term must be Pair(...) or Target(...), got {term!r}")
    if not terms:
        raise InputError("there is nothing to train: terms is empty; give at least one Pair or Target")
    for node in modalities:
        if not node.replace("-", "_").isidentifier():
            raise InputError(f"node name {node!r}: use only letters, digits, _ and -")
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
