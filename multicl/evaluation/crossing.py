"""Measures between two nodes, on rows of a data set: retrieval both ways, and zero-shot classification.

The two need not have been trained as a pair: what links them may be a third.
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
"""Prompts for a class of pictures; the ensemble of all of them is what is compared."""


def crossing(
    embed: Embed, modalities: dict[str, Modality], a: str, b: str, rows: Rows, ids: str | Sequence[str] | None = None,
    ks: Sequence[int] = (1, 5, 10), drop: set[Any] | None = None,
) -> Figures:  # fmt: skip
    """Searching b's with a's and a's with b's, over the rows that have both.

    Where a cell holds several captions, each of them searches, and each is right to find.

    Args:
        ids: what else is right to find; see `abouts`.
        drop: texts, of b: rows that hold one are left out, as training saw them; see `seen`.

    Returns:
        "A_to_B_recall@k" for each k, "A_to_B_median_rank" and "A_to_B_map@K" for the last, either way, and "A_B_gap",
        how far apart the two modalities' centres lie, in [0, 2].

    Raises:
        InputError: no row has both.
    """
    cells = [rows.resolved(column_of(node, modalities[node]), modalities[node].files) for node in (a, b)]
    values = abouts(rows, ids, modalities)
    there = [i for i in range(len(cells[0])) if all(c[i] is not None for c in cells)]
    kept = {i for i in there if not (drop and drop.intersection(_parts(cells[1][i])))}
    if not kept:
        seen_all = ", but for what training saw" if there else ""
        raise InputError(f"{rows.label}: no row has both {a!r} and {b!r}{seen_all}")
    skipped: dict[int, str] = {}
    of_a, of_b = (
        side(embed, node, modalities[node], [cell if i in kept else None for i, cell in enumerate(c)], skipped)
        for node, c in zip((a, b), cells, strict=True)
    )
    za, zb, ta, tb = shared(of_a, of_b, values)
    if not len(za):
        why = f": {next(iter(skipped.values()))}" if skipped else ""
        raise InputError(f"{rows.label}: no row has both {a!r} and {b!r} in a form that can be read{why}")
    found = both_ways(a, b, za, zb, ta, tb, ks)
    told = (*(f"recall@{k}" for k in ks), "median_rank", f"map@{ks[-1]}")
    figures = {f"{way}_{name}": found[f"{way}_{name}"] for way in (f"{a}_to_{b}", f"{b}_to_{a}") for name in told}
    return {**figures, f"{a}_{b}_gap": modality_gap(za, zb, together=len(za) == len(zb) == len(kept))}


Side = tuple[Tensor, list[int]]
"""[M, D] of all that a column's cells stand for, and which row each is of, in the order of the rows."""


def side(
    embed: Embed, node: str, modality: Modality, cells: Sequence[Any], skipped: dict[int, str] | None = None
) -> Side:
    """What is searched of a node: each of several captions of a cell on its own; None and what cannot be read is not.

    Args:
        cells: of every row. skipped: gets why cells cannot be read.
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
    """What each row is about, by which what is found is right; as `shared` takes it.

    Not along chains: of a, b and c, where a shares a text with b and b a file with c, a and c are about two things.

    Args:
        ids: a column: rows of equal value, or that share one of several in a cell, are all right. Several columns, or
            nodes, whose columns are meant: those that share a value or a file in any of them; of a node, a text or a
            file. None: a row's own alone.
    """
    if ids is None or isinstance(ids, str):
        return None if ids is None else rows.column(ids)
    own = {column_of(node, modality): modality.files for node, modality in modalities.items()}
    found: list[list[tuple[int, Any]]] = []
    for number, name in enumerate(ids):
        column = column_of(name, modalities[name]) if name in modalities else name
        media = own.get(column, False)
        cells = rows.resolved(column, media)
        if media or any(isinstance(cell, dict) for cell in cells):  # copies under other names are one file
            cells = content_ids([cells], range(len(cells)), [Files() if media else None])[0].tolist()
        elif column in own:  # numbers that rows share, of a table's, say nothing
            cells = [[part for part in _parts(cell) if isinstance(part, str)] for cell in cells]
        found = found or [[] for _ in cells]
        for row, cell in zip(found, cells, strict=True):
            row += [(number, part) for part in map(_bare, _parts(cell)) if not is_null(part) and part != ""]
    return found


Abouts = list[int] | list[list[int]]
"""What rows are about, each one thing or several, as `retrieval` takes them."""


def shared(a: Side, b: Side, values: Sequence[Any] | None) -> tuple[Tensor, Tensor, Abouts, Abouts]:
    """Two sides' vectors of the rows that both have, and what each is about, by which what is found is right.

    Args:
        values: of every row: those of equal value, or that share one of several in a list, are about one thing, and
            those of a null or an empty list are about their own row; None: every row is.
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
    """`retrieval` of b's with a's and of a's with b's, as "A_to_B_FIGURE"; arguments as `shared` gives them."""
    figures: Figures = {}
    for way, queries, items, asked, held in ((f"{a}_to_{b}", za, zb, ta, tb), (f"{b}_to_{a}", zb, za, tb, ta)):
        found = retrieval(queries, items, asked, held, ks=ks, world=world)
        figures |= {f"{way}_{name}": value for name, value in found.items() if name != "without_truth"}
    return figures


def every(
    embed: Embed, modalities: dict[str, Modality], rows: Rows, trained: Sequence[tuple[str, str]],
    ids: str | None = None,
) -> Figures:  # fmt: skip
    """`crossing` of every two nodes that some row has both of; names begin with "emergent_" where they are no pair.

    Args:
        trained: the pairs of the graph. ids: as `crossing`; None: the two nodes.
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
    """ "image-audio" -> its two nodes, whose names may hold a - themselves; `same`: they may be one.

    Raises:
        InputError: it is none of two nodes.
    """
    for a in modalities:
        for b in modalities:
            if pair == f"{a}-{b}" and (same or a != b):
                return a, b
    raise InputError(f"{pair!r} names no two nodes: write A-B with two of {list(modalities)}")


def seen(rows: Rows, column: str) -> set[Any]:
    """What a column of the training rows holds, each of several in a cell."""
    return {part for cell in rows.cells(column) for part in _parts(cell) if part is not None}


def classify(
    embed: Embed, modalities: dict[str, Modality], node: str, text: str, rows: Rows, label: str,
    templates: Sequence[str] = TEMPLATES, names: Sequence[str] = (),
) -> Figures:  # fmt: skip
    """Zero-shot classification of a node's rows: the nearest class, each named in every template by the node `text`.

    Args:
        label: a column: each row's class, by name; or by number, where `names` are given or the data have them
            (`datasets.ClassLabel`). Rows without one are left out.

    Returns:
        "zero_shot_LABEL_accuracy@1" and others of `multicl.evaluation.zero_shot`.

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
        raise InputError(f"{rows.label}, column {label!r}: zero-shot needs words, and {numbers[0]!r} has no name")
    skipped: dict[int, str] = {}
    z = embed(node, [cells[i] for i in kept], skipped)
    good = [at for at in range(len(kept)) if at not in skipped]
    prompts = embed(text, filled(list(names) or classes, templates), {})
    found = by_words(z[good], [str(keys[kept[at]]) for at in good], prompts, classes)
    return {f"zero_shot_{label}_{name}": value for name, value in found.items()}


def by_words(
    x: Tensor, labels: Sequence[str], prompts: Tensor, classes: Sequence[str], world: World | None = None
) -> Figures:
    """`zero_shot` of vectors [N, D] with labels among the classes, each said by as many prompts [C * T, D]."""
    number = {key: i for i, key in enumerate(classes)}
    return zero_shot(x, class_vectors(prompts, len(classes)), [number[label] for label in labels], world=world)


def numbered(values: Sequence[Any]) -> Abouts:
    """Values of ids -> numbers, equal where the values are; of several in a list, each one's."""
    first: dict[Any, int] = {}
    if not any(isinstance(value, list | tuple) for value in values):
        return [first.setdefault(("null", i) if is_null(value) else value, i) for i, value in enumerate(values)]
    several = [[part for part in map(_bare, _parts(value)) if not is_null(part) and part != ""] for value in values]
    return [[first.setdefault(part, len(first)) for part in parts or [("null", i)]] for i, parts in enumerate(several)]


def _bare(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _parts(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else (value,)
