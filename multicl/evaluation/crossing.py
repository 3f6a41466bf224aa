"""Measures between two nodes on the rows of a data set: retrieval in both directions, and zero-shot classification.

The two need not have been trained as a pair: a third node may link them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from multicl.data.cells import is_null
from multicl.data.equal_files import Files
from multicl.data.ids import content_ids, label_key
from multicl.distributed import World
from multicl.evaluation.geometry import modality_gap
from multicl.evaluation.held_out import Embed, Figures
from multicl.evaluation.retrieval import retrieval
from multicl.evaluation.zero_shot import class_vectors, filled, zero_shot
from multicl.graph import column_of
from multicl.types import InputError, Modality, Several

if TYPE_CHECKING:
    from multicl.data.rows import Rows

TEMPLATES = ("{}", "a photo of a {}.", "a picture of a {}.", "an image of the {}.", "a drawing of a {}.")
"""Prompts for a class of pictures; pictures are compared with the ensemble of all of them."""


def crossing(
    embed: Embed, modalities: dict[str, Modality], a: str, b: str, rows: Rows, ids: str | Sequence[str] | None = None,
    ks: Sequence[int] = (1, 5, 10), drop: set[Any] | None = None,
) -> Figures:  # fmt: skip
    """Retrieval from a to b and from b to a, over the rows that have both.

    If a cell holds several captions, each is a query of its own, and each is a correct result.

    Args:
        ids: what else is a correct result; see `abouts`.
        drop: texts of b that training saw (see `seen`); rows that hold one are left out.

    Returns:
        "A_to_B_recall@k" for each k, "A_to_B_median_rank" and "A_to_B_map@K" for the last k, in both directions, and
        "A_B_gap", the distance between the two modalities' centres, in [0, 2].

    Raises:
        InputError: no row has both in a form that can be read.
    """
    cells = [rows.resolved(column_of(node, modalities[node]), modalities[node].files) for node in (a, b)]
    values = abouts(rows, ids, modalities)
    there = [i for i in range(len(cells[0])) if all(c[i] is not None for c in cells)]
    kept = {i for i in there if not (drop and drop.intersection(_parts(cells[1][i])))}
    if not kept:
        seen_all = " except rows that training has seen" if there else ""
        raise InputError(f"{rows.label}: no row has both {a!r} and {b!r}{seen_all}")
    skipped: dict[int, str] = {}
    of_a, of_b = (
        side(embed, node, modalities[node], [cell if i in kept else None for i, cell in enumerate(c)], skipped)
        for node, c in zip((a, b), cells, strict=True)
    )
    za, zb, ta, tb = shared(of_a, of_b, values)
    if not len(za):
        why = f": {next(iter(skipped.values()))}" if skipped else ""
        raise InputError(f"{rows.label}: no row has both {a!r} and {b!r} in a readable form{why}")
    found = both_ways(a, b, za, zb, ta, tb, ks)
    told = (*(f"recall@{k}" for k in ks), "median_rank", f"map@{ks[-1]}")
    figures = {f"{way}_{name}": found[f"{way}_{name}"] for way in (f"{a}_to_{b}", f"{b}_to_{a}") for name in told}
    return {**figures, f"{a}_{b}_gap": modality_gap(za, zb, together=len(za) == len(zb) == len(kept))}


Side = tuple[Tensor, list[int]]
"""[M, D] vectors of everything in a column's cells, and the row that each belongs to, in row order."""


def side(
    embed: Embed, node: str, modality: Modality, cells: Sequence[Any], skipped: dict[int, str] | None = None
) -> Side:
    """Embed a node's cells, each of several captions in a cell on its own; None and unreadable cells are left out.

    Args:
        cells: one per row. skipped: receives why cells cannot be read.
    """
    every: list[Any] = []
    whose: list[int] = []
    for row, cell in enumerate(cells):
        if cell is not None:
            parts = modality.each(cell) if isinstance(modality, Several) else [cell]
            every += parts
            whose += [row] * len(parts)
    lost: dict[int, str] = {}
    z = embed(node, every, lost) if every else torch.zeros(0, 1)
    good = [at for at in range(len(every)) if at not in lost]
    if skipped is not None:
        skipped |= lost
    return z[good], [whose[at] for at in good]


def abouts(rows: Rows, ids: str | Sequence[str] | None, modalities: dict[str, Modality]) -> list[Any] | None:
    """What each row is about, which decides what is a correct result; in the form that `shared` takes.

    Sharing is not transitive: if a shares a text with b, and b a file with c, a and c are about different things.

    Args:
        ids: a column: rows with equal values, or with one of several in a cell in common, are correct results for each
            other. Several columns or nodes (a node stands for its column): rows that share a value or a file in any of
            them; in a node's column only texts and files count. None: each row alone.
    """
    if ids is None or isinstance(ids, str):
        return None if ids is None else rows.column(ids)
    own = {column_of(node, modality): modality.files for node, modality in modalities.items()}
    found: list[list[tuple[int, Any]]] = []
    for number, name in enumerate(ids):
        column = column_of(name, modalities[name]) if name in modalities else name
        media = own.get(column, False)
        cells = rows.resolved(column, media)
        if media or any(isinstance(cell, dict) for cell in cells):  # copies of a file are one file
            cells = content_ids([cells], range(len(cells)), [Files() if media else None])[0].tolist()
        elif column in own:  # equal numbers in a node's column say nothing
            cells = [[part for part in _parts(cell) if isinstance(part, str)] for cell in cells]
        found = found or [[] for _ in cells]
        for row, cell in zip(found, cells, strict=True):
            row += [(number, part) for part in map(_bare, _parts(cell)) if not is_null(part) and part != ""]
    return found


Abouts = list[int] | list[list[int]]
"""What each row is about, one thing or several, as `retrieval` takes it."""


def shared(a: Side, b: Side, values: Sequence[Any] | None) -> tuple[Tensor, Tensor, Abouts, Abouts]:
    """Both sides' vectors of the rows that both have, and what each is about, which decides what is a correct result.

    Args:
        values: one per row. Rows with equal values, or with one of several in a list in common, are about the same
            thing; a row with a null or an empty list is about itself alone. None: so is every row.
    """
    rows = sorted(set(a[1]) & set(b[1]))
    about: dict[int, Any] = dict(zip(rows, numbered([values[i] for i in rows]) if values else rows, strict=True))
    (za, ta), (zb, tb) = (
        (z[[at for at, row in enumerate(whose) if row in about]], [about[row] for row in whose if row in about])
        for z, whose in (a, b)
    )
    return za, zb, ta, tb


def both_ways(
    a: str, b: str, za: Tensor, zb: Tensor, ta: Abouts, tb: Abouts, ks: Sequence[int] = (1, 5, 10),
    world: World | None = None,
) -> Figures:  # fmt: skip
    """`retrieval` from a to b and from b to a, as "A_to_B_FIGURE"; arguments as `shared` returns them."""
    figures: Figures = {}
    for way, queries, items, asked, held in ((f"{a}_to_{b}", za, zb, ta, tb), (f"{b}_to_{a}", zb, za, tb, ta)):
        found = retrieval(queries, items, asked, held, ks=ks, world=world)
        figures |= {f"{way}_{name}": value for name, value in found.items() if name != "without_truth"}
    return figures


def every(
    embed: Embed, modalities: dict[str, Modality], rows: Rows, trained: Sequence[tuple[str, str]],
    ids: str | None = None,
) -> Figures:  # fmt: skip
    """`crossing` of every two nodes that some row has both of; figures of untrained pairs begin with "emergent_".

    Args:
        trained: the pairs of the graph. ids: as in `crossing`; None: the two nodes.
    """
    columns = {node: column_of(node, modality) for node, modality in modalities.items()}
    there = {n: [cell is not None for cell in rows.column(c)] if rows.has(c) else [] for n, c in columns.items()}
    pairs, figures = {frozenset(pair) for pair in trained}, Figures()
    for a, b in combinations(modalities, 2):
        if any(x and y for x, y in zip(there[a], there[b], strict=False)):
            found = crossing(embed, modalities, a, b, rows, ids=ids or (a, b))
            before = "" if frozenset((a, b)) in pairs else "emergent_"
            figures |= {before + name: value for name, value in found.items()}
    return figures


def named(pair: str, modalities: dict[str, Modality], same: bool = False) -> tuple[str, str]:
    """The two nodes that "image-audio" names; their names may contain "-". `same`: both may be one node.

    Raises:
        InputError: `pair` does not name two nodes.
    """
    for a in modalities:
        for b in modalities:
            if pair == f"{a}-{b}" and (same or a != b):
                return a, b
    raise InputError(f"{pair!r} does not name two nodes: write A-B with two of {list(modalities)}")


def seen(rows: Rows, column: str) -> set[Any]:
    """The values in a column of the training rows; of several in a cell, each one."""
    return {part for cell in rows.cells(column) for part in _parts(cell) if part is not None}


def classify(
    embed: Embed, modalities: dict[str, Modality], node: str, text: str, rows: Rows, label: str,
    templates: Sequence[str] = TEMPLATES, names: Sequence[str] = (),
) -> Figures:  # fmt: skip
    """Zero-shot classification of a node's rows by the nearest class; node `text` embeds each class in all templates.

    Args:
        label: the column with each row's class: its name, or its number if `names` are given or the data have them
            (`datasets.ClassLabel`). Rows without one are left out.

    Returns:
        "zero_shot_LABEL_accuracy@1" and the other figures of `multicl.evaluation.zero_shot`.

    Raises:
        InputError: no row has a label; a label or number without a name; a template without {}.
    """
    cells = rows.resolved(column_of(node, modalities[node]), modalities[node].files)
    labels, names = rows.column(label), names or rows.class_names(label) or ()
    keys = [label_key(value) for value in labels]
    kept = [i for i, (cell, key) in enumerate(zip(cells, keys, strict=True)) if cell is not None and key is not None]
    classes = [str(n) for n in range(len(names))] if names else sorted({key for i in kept if (key := keys[i])})
    if not kept or any(keys[i] not in classes for i in kept):
        bad = next((keys[i] for i in kept if keys[i] not in classes), None)
        raise InputError(f"{rows.label}, column {label!r}: " + (f"label {bad!r} has no name" if kept else "no labels"))
    if not names and (numbers := [labels[i] for i in kept if not isinstance(labels[i], str)]):
        raise InputError(
            f"{rows.label}, column {label!r}: zero-shot needs class names, but {numbers[0]!r} is a number: give names"
        )
    skipped: dict[int, str] = {}
    z = embed(node, [cells[i] for i in kept], skipped)
    good = [at for at in range(len(kept)) if at not in skipped]
    prompts = embed(text, filled(list(names) or classes, templates), {})
    found = by_words(z[good], [str(keys[kept[at]]) for at in good], prompts, classes)
    return {f"zero_shot_{label}_{name}": value for name, value in found.items()}


def by_words(
    x: Tensor, labels: Sequence[str], prompts: Tensor, classes: Sequence[str], world: World | None = None
) -> Figures:
    """`zero_shot` of vectors [N, D] with labels among `classes`; prompts [C * T, D]: T for each class."""
    number = {key: i for i, key in enumerate(classes)}
    return zero_shot(x, class_vectors(prompts, len(classes)), [number[label] for label in labels], world=world)


def numbered(values: Sequence[Any]) -> Abouts:
    """Replace ids by numbers that are equal where the ids are; a list of several ids becomes a list of numbers."""
    first: dict[Any, int] = {}
    if not any(isinstance(value, list | tuple) for value in values):
        return [first.setdefault(("null", i) if is_null(value) else value, i) for i, value in enumerate(values)]
    several = [[part for part in map(_bare, _parts(value)) if not is_null(part) and part != ""] for value in values]
    return [[first.setdefault(part, len(first)) for part in parts or [("null", i)]] for i, parts in enumerate(several)]


def _bare(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _parts(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else (value,)
