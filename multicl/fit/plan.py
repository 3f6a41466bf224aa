"""From columns to a recipe's settings: nodes, pairs, sizes, and the reasons in words."""

from __future__ import annotations

import keyword
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any

from multicl.adapters import adapter
from multicl.data.cells import resolve_path
from multicl.data.rows import Rows
from multicl.fit.columns import CAPTIONS, LONG, NEGATIVES, OFTEN, SCORES, Column, constant, labels_among
from multicl.run import Run
from multicl.types import InputError, Suggestion, Suggests

TAKEN = {"self", "label", "probe", "field", "multicl", "held_out", "crossing"}
"""Names in the written recipe that no node may have, besides those of every run."""
FEW = 2000
"""Rows below which an encoder from scratch learns little."""
OWN = "its own views"


@dataclass(frozen=True)
class Node:
    """A node of the graph."""

    name: str
    kind: str
    """The adapter's name."""
    column: str
    tower: str
    suggestion: Suggestion


@dataclass(frozen=True)
class Edge:
    """A pair of the graph."""

    a: str
    b: str
    temperature: float
    learnable: bool
    negatives: str | None = None
    """The node of explicit hard negatives."""


@dataclass(frozen=True)
class Plan:
    """What to train, and why."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    label: str | None
    rows: int
    batch_size: int
    why: tuple[str, ...]
    """The reasons for each choice, a line each."""

    @property
    def crossings(self) -> list[tuple[str, str]]:
        """The pairs of two different nodes, between which retrieval is measured."""
        return [(e.a, e.b) for e in self.edges if e.a != e.b]


def plan(rows: Rows, columns: Sequence[Column], accelerator: bool, pretrained: bool = False) -> Plan:
    """Choose the graph from the columns, and sizes from the cells and the machine.

    One column: two views of each thing (SimCLR, SimCSE). Two of one kind: a pair that shares one tower; of more texts
    the first and the longest, and a column named as in NEGATIVES holds their hard negatives. Media and texts: each
    picture or sound with its text (CLIP, CLAP), and a single column of media also with itself, as two views. Otherwise
    all with all.

    Args:
        columns: of the rows. accelerator: whether there is a GPU. pretrained: begin with encoders from the hub.

    Raises:
        InputError: no adapter reads any column (every column is named with what it was taken for); or the only
            pictures or sounds cannot be read as they are (see `multicl.fit.odd`).
    """
    label = labels_among(columns)
    kinds: dict[str, list[Column]] = {}
    for column in columns:
        if column.adapter is not None and column.present >= OFTEN:
            kinds.setdefault(column.adapter, []).append(column)
    media = [kind for kind in kinds if adapter(kind)().files]
    lost = next(((c.name, c.odd) for c in columns if c.odd is not None and c.odd.way_out), None)
    if lost is not None and not media:
        name, why_odd = lost
        raise InputError(f"{rows.label}: column {name!r} holds {why_odd.what}. {why_odd.way_out}, or remove the column")
    if not kinds:
        raise InputError(
            f"{rows.label}: no column holds readable pictures, texts or sounds; its columns are "
            + ", ".join(f"{c.name} ({_left_alone(c, 'unknown')})" for c in columns)
        )
    texts = [column for column in kinds.get("text", ()) if column.name.lower() not in NEGATIVES]
    negatives = [column for column in kinds.get("text", ()) if column not in texts]
    if media and len(texts) > 1:
        texts = [_caption(texts)]
    elif len(texts) > 2:
        texts = [texts[0], max(texts[1:], key=_length)]
    if texts:
        kinds["text"] = texts
    chosen = {kind: found[:2] for kind, found in kinds.items()}
    if [*chosen] == ["text"] and len(texts) == 2:
        chosen["text"] += negatives[:1]
    why = [_said(column, chosen, label) for column in columns]
    if name := next((column.name for column in columns if len(column.name) > LONG), ""):
        why.append(f"a column is named {name[:LONG]!r} ...: if the first line is a row, write column names before it")
    if not media and len(texts) == 2:
        why += [
            f"all rows are trained as matches: if column {column.name} says which match, recipe scored_pairs "
            "(simcse_nli for classes of NLI) learns from it"
            for column in columns
            if column.name.lower() in SCORES and column not in texts
        ]
    nodes = tuple(node for kind, found in chosen.items() for node in _nodes(kind, found, rows, accelerator, pretrained))
    edges, graph = _edges(nodes, media)
    most = 1024 if accelerator else 256
    batch_size = max(2, min(most, 1 << max(1, (len(rows) // 4).bit_length() - 1)))
    why += [f"{node.name}: {node.suggestion.why}" for node in nodes]
    why += [f"pairs: {graph}", f"batch: {batch_size} of {len(rows)} rows"]
    if len(rows) < FEW and not pretrained:
        why.append(f"{len(rows)} rows are few to train from scratch: --pretrained starts from encoders of the hub")
    return Plan(nodes, edges, label.name if label else None, len(rows), batch_size, tuple(why))


def _caption(found: Sequence[Column]) -> Column:
    """The column of descriptions: one that the user named, else one in CAPTIONS, else that with the longest texts."""
    found = [column for column in found if column.asked] or found
    named = [column for column in found if column.name.lower() in CAPTIONS]
    if named:
        return min(named, key=lambda column: CAPTIONS.index(column.name.lower()))
    return max(found, key=_length)


def _length(column: Column) -> float:
    """Mean number of characters of the column's texts."""
    return sum(len(str(cell)) for cell in column.cells) / len(column.cells)


def _nodes(kind: str, found: list[Column], rows: Rows, accelerator: bool, pretrained: bool) -> list[Node]:
    """The nodes of a kind; several share a tower."""
    made = adapter(kind)()
    cells = [resolve_path(c, rows.base if made.files else None) for f in found for c in f.cells]
    if isinstance(made, Suggests):
        suggestion = made.suggest(cells, accelerator, pretrained)
    else:
        suggestion = Suggestion({}, 0.1, "the adapter's defaults")
    if len(found) == 1:
        return [Node(kind, kind, found[0].name, kind, suggestion)]
    return [
        Node(_name(column.name, number, kind), kind, column.name, kind, suggestion)
        for number, column in enumerate(found, 1)
    ]


def _name(column: str, number: int, kind: str) -> str:
    """A node's name: that of its column, if a field in Python can have it."""
    taken = TAKEN | {f.name for f in fields(Run)} | set(dir(Run))
    free = column.isidentifier() and not keyword.iskeyword(column) and column not in taken
    return column if free else f"{kind}_{number}"


def _edges(nodes: Sequence[Node], media: Sequence[str]) -> tuple[tuple[Edge, ...], str]:
    """The pairs, and their description in words."""
    if len(nodes) == 1:
        (node,) = nodes
        return (Edge(node.name, node.name, node.suggestion.temperature, False),), f"{node.name} and {OWN}"
    texts = [node for node in nodes if node.kind == "text"]
    if len(texts) == len(nodes) == 3:
        a, b, negative = nodes
        return (
            Edge(a.name, b.name, 0.07, True, negative.name),
        ), f"{a.name} and {b.name}, with hard negatives from {negative.name}"
    edges = [
        Edge(a.name, b.name, 0.07, True)
        for a, b in combinations(nodes, 2)
        if a.kind == b.kind or not texts or "text" in (a.kind, b.kind)
    ]
    words = [f"{edge.a} and {edge.b}" for edge in edges]
    if texts and len(media) == 1:
        alone = [node for node in nodes if node.kind == media[0]]
        if len(alone) == 1:  # captions alone teach a tower from scratch too little about what it sees
            edges.append(Edge(alone[0].name, alone[0].name, alone[0].suggestion.temperature, False))
            words.append(f"{alone[0].name} and {OWN}")
    return tuple(edges), "; ".join(words)


def _said(column: Column, chosen: dict[str, list[Column]], label: Column | None) -> str:
    """What a column was taken for."""
    if label is not None and column.name == label.name:
        where = "" if column.present == 1 else f", in {column.present:.0%} of the rows"
        may_be_texts = "text" not in chosen and any(isinstance(cell, str) for cell in column.cells)
        other = f" (--as-text {shlex.quote(column.name)} trains on them as texts)" if may_be_texts else ""
        return f"column {column.name}: {column.classes} labels{where}, only for measuring{other}"
    if any(column is each for found in chosen.values() for each in found):
        return f"column {column.name}: {column.adapter}"
    return f"column {column.name}: left alone ({_left_alone(column, 'no adapter reads it')})"


def _left_alone(column: Column, unknown: str) -> str:
    """Why a column is not in the graph."""
    if column.odd is not None:
        return column.odd.what
    if column.classes:
        return "labels" if column.present == 1 else f"labels, in {column.present:.0%} of the rows"
    if column.adapter is not None:
        return column.adapter if column.present >= OFTEN else f"{column.adapter}, in {column.present:.0%} of the rows"
    return "the same in every row" if constant(column.cells) else unknown


def settings_code(node: Node) -> str:
    """The Python expression that makes the adapter in a recipe."""
    named = {**node.suggestion.settings, "column": node.column}
    if node.tower != node.name:
        named["tower"] = node.tower
    encoder: Any = named.pop("encoder", None)
    parts = [repr(encoder)] if encoder is not None else []
    return f"{adapter(node.kind).__name__}({', '.join([*parts, *(f'{k}={v!r}' for k, v in named.items())])})"
