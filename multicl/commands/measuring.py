"""`multicl eval RUN --measure ...`: measures chosen by name, on any run and any data.

Each measure takes a `Subject` and settings, and returns figures by name. With several ranks, each embeds a part of the
rows; the figures are identical to those of one process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch

from multicl import evaluation as measure
from multicl.commands.fine_tune import fine_tune
from multicl.commands.model import opened
from multicl.commands.subject import Subject
from multicl.data.ids import label_key
from multicl.distributed import World
from multicl.evaluation.crossing import abouts, both_ways, by_words, shared
from multicl.evaluation.figure import intervals, spread
from multicl.figures import Figures, figures_table, rounded, to_json
from multicl.launcher import is_main
from multicl.model import load, space_named
from multicl.pairs import Pair
from multicl.types import InputError


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Settings of the measures."""

    nodes: tuple[str, ...] = ()
    """Nodes to measure; empty: all whose column the data have."""
    label: str = "label"
    """Column of the labels."""
    names: str | None = None
    """Column of the class names in words, for zero-shot; None: the column of the labels."""
    templates: tuple[str, ...] = ("{}",)
    """Prompts for a class, {} standing for its name: "a photo of a {}"; of several, the mean vector is used."""
    ids: str | None = None
    """For retrieval, the column whose equal values make a found item correct; None: the pair's own `ids`, or else
    items that share a text or a file."""
    k: int = 200
    """Number of neighbours that vote in kNN."""
    seed: int = 0
    """Seed of all random choices: a probe's split, few-shot rows, initial clusters, fine-tuning, intervals."""


def measured(subject: Subject, names: Sequence[str], choices: Choices) -> Figures:
    """The figures of several measures; with more than one node, a node's figure is named "NODE/FIGURE".

    Raises:
        InputError: a measure is unknown, a node or column is missing, or a measure suits none of the nodes.
    """
    if unknown := [name for name in names if name not in MEASURES]:
        raise InputError(f"no measure is named {unknown[0]!r}; there are {list(MEASURES)}")
    figures: Figures = {}
    for name in names:
        try:
            figures |= MEASURES[name](subject, choices)
        except InputError as error:  # say which measure
            raise InputError(f"{name}: {error}") from error
    return figures


def _each(subject: Subject, choices: Choices, one: Callable[[str], Figures]) -> Figures:
    """The figures of a measure for every chosen node."""
    nodes = _chosen(subject, choices) or subject.nodes()
    if not nodes:
        raise InputError(f"{subject.test.label} has no column that the model's nodes {subject.model.nodes} read")
    found: Figures = {}
    for node in nodes:
        found |= {f"{node}/{name}" if len(nodes) > 1 else name: value for name, value in one(node).items()}
    return found


def _chosen(subject: Subject, choices: Choices) -> list[str]:
    """The nodes that `choices` names, checked to be in the rows; empty: it names none."""
    there = subject.nodes()
    if unknown := [node for node in choices.nodes if node not in there]:
        raise InputError(f"{subject.test.label} has no column for node {unknown[0]!r}; it has those of {there}")
    return list(choices.nodes)


def _couples(subject: Subject, choices: Choices) -> list[tuple[str, str, str | None]]:
    """(a, b, ids column) of each trained pair of two different nodes; without one, of any two of the nodes."""
    nodes = _chosen(subject, choices) or subject.nodes()
    trained = [p for p in subject.model.towers.pairs if isinstance(p, Pair) and not p.symmetric]
    found = [(p.a, p.b, p.ids) for p in trained if p.a in nodes and p.b in nodes]
    found = found or [(a, b, None) for a, b in combinations(nodes, 2)]
    if not found:
        raise InputError(f"this measure compares two nodes, and the rows have {list(nodes)}")
    return found


def _knn(subject: Subject, choices: Choices) -> Figures:
    def one(node: str) -> Figures:
        sides = (*subject.labelled(node, choices.label, True), *subject.labelled(node, choices.label))
        return {f"knn_{choices.k}": measure.knn_accuracy(*sides, k=choices.k, world=subject.world)}

    return _each(subject, choices, one)


def _linear_probe(subject: Subject, choices: Choices) -> Figures:
    def one(node: str) -> Figures:
        sides = (*subject.labelled(node, choices.label, True), *subject.labelled(node, choices.label))
        return {"linear": measure.linear_probe(*sides, seed=choices.seed).accuracy}

    return _each(subject, choices, one)


def _few_shot(subject: Subject, choices: Choices) -> Figures:
    def one(node: str) -> Figures:
        sides = (*subject.labelled(node, choices.label, True), *subject.labelled(node, choices.label))
        return dict(measure.few_shot(*sides, seed=choices.seed))

    return _each(subject, choices, one)


def _fine_tune(subject: Subject, choices: Choices) -> Figures:
    def one(node: str) -> Figures:
        rows = (subject.train, subject.test, choices.label)
        return {"fine_tune": fine_tune(subject.model, node, *rows, seed=choices.seed)}

    return _each(subject, choices, one)


def _clustering(subject: Subject, choices: Choices) -> Figures:
    def one(node: str) -> Figures:
        return measure.clustering(*subject.labelled(node, choices.label), seed=choices.seed)

    return _each(subject, choices, one)


def _zero_shot(subject: Subject, choices: Choices) -> Figures:
    couples = _couples(subject, choices)
    column = choices.names or choices.label
    cells = [cell for cell in subject.test.column(column) if label_key(cell) is not None]
    known = subject.test.class_names(column)
    numbers = [cell for cell in cells if not isinstance(cell, str)]
    if numbers and not known:
        raise InputError(f"zero-shot needs classes in words, but column {column!r} holds {numbers[0]!r}: give --names")
    words = known or list(dict.fromkeys(str(label_key(cell)) for cell in cells))
    keys = [str(number) for number in range(len(words))] if known else words
    if len(words) < 2:
        raise InputError(f"zero-shot needs two classes or more, but column {column!r} holds {words}")
    said = measure.filled(words, choices.templates)
    found: Figures = {}
    for node, speaker in ((n, s) for a, b, _ in couples for n, s in ((a, b), (b, a))):
        prompts, bad = subject.embed(speaker, said)
        if not bool(bad.any()):  # this node reads words
            accuracy = by_words(*subject.labelled(node, column), prompts, keys, subject.world)
            found[f"{node}/zero_shot"] = accuracy["accuracy@1"]
    if not found:
        raise InputError(f"none of the nodes {subject.nodes()} reads the classes' words")
    return found


def _retrieval(subject: Subject, choices: Choices) -> Figures:
    found: Figures = {}
    for a, b, own in _couples(subject, choices):
        ids = choices.ids or own
        values = abouts(subject.test, ids or (a, b), subject.model.towers.modalities)
        sides = shared(subject.parts(a), subject.parts(b), values)
        if not len(sides[0]):
            raise InputError(f"{subject.test.label}: no row has both {a!r} and {b!r}")
        found |= both_ways(a, b, *sides, world=subject.world)
    return found


def _retrieval_within(subject: Subject, choices: Choices) -> Figures:
    def one(node: str) -> Figures:
        return measure.retrieval_within(*subject.labelled(node, choices.label), world=subject.world)

    return _each(subject, choices, one)


def _triplets(subject: Subject, choices: Choices) -> Figures:
    """Triplet accuracy of three chosen nodes, or of every pair that has explicit negatives."""
    there, chosen = subject.nodes(), _chosen(subject, choices)
    terms = [term for term in subject.model.towers.pairs if isinstance(term, Pair)]
    threes = [(p.a, p.b, p.negatives) for p in terms if p.negatives and {p.a, p.b, p.negatives} <= set(there)]
    if len(chosen) == 3:
        threes = [(chosen[0], chosen[1], chosen[2])]
    if len(chosen) not in (0, 3) or not threes:
        raise InputError(
            f"triplets need an anchor, its positive and its negative: choose them with --nodes from {there}"
        )
    return {f"{a}-{b}/triplets": measure.triplet_accuracy(*subject.together(a, b, n)[0]) for a, b, n in threes}


def _sts(subject: Subject, choices: Choices) -> Figures:
    sentences = [subject.test.column(name) for name in ("sentence1", "sentence2")]
    scores = torch.tensor([float(score) for score in subject.test.column("score")])

    def one(node: str) -> Figures:
        a, b = (subject.embed(node, cells) for cells in sentences)
        good = ~(a[1] | b[1])
        return {"sts_spearman": measure.sts_spearman(a[0][good], b[0][good], scores[good])}

    nodes = choices.nodes or tuple(subject.model.nodes)
    if unknown := [node for node in nodes if node not in subject.model.nodes]:
        raise InputError(f"no node is named {unknown[0]!r}; there are {subject.model.nodes}")
    found: Figures = {}
    for node in nodes:
        found |= {f"{node}/{name}" if len(nodes) > 1 else name: value for name, value in one(node).items()}
    return found


def _uniformity(subject: Subject, choices: Choices) -> Figures:
    return _each(subject, choices, lambda node: {"uniformity": measure.uniformity(subject.vectors(node)[0])})


def _effective_rank(subject: Subject, choices: Choices) -> Figures:
    return _each(subject, choices, lambda node: {"effective_rank": measure.effective_rank(subject.vectors(node)[0])})


def _alignment(subject: Subject, choices: Choices) -> Figures:
    def near(a: str, b: str) -> float:
        (za, zb), _ = subject.together(a, b)
        return measure.alignment(za, zb)

    return {f"{a}-{b}/alignment": near(a, b) for a, b, _ in _couples(subject, choices)}


def _modality_gap(subject: Subject, choices: Choices) -> Figures:
    def gap(a: str, b: str) -> float:
        (za, rows_a), (zb, rows_b) = subject.vectors(a), subject.vectors(b)
        return measure.modality_gap(za, zb, together=rows_a == rows_b)

    return {f"{a}-{b}/modality_gap": gap(a, b) for a, b, _ in _couples(subject, choices)}


MEASURES: dict[str, Callable[[Subject, Choices], Figures]] = {
    "knn": _knn, "linear_probe": _linear_probe, "few_shot": _few_shot, "fine_tune": _fine_tune,
    "retrieval": _retrieval, "retrieval_within": _retrieval_within, "zero_shot": _zero_shot, "sts": _sts,
    "clustering": _clustering, "alignment": _alignment, "uniformity": _uniformity,
    "effective_rank": _effective_rank, "modality_gap": _modality_gap, "triplets": _triplets,
}  # fmt: skip
"""Name on the command line -> measure."""


def measure_runs(
    runs: Sequence[Path], names: Sequence[str], choices: Choices, *, data: str | None = None, test: str | None = None,
    train: str | None = None, columns: Mapping[str, str] | None = None, space: str | None = None, batch_size: int = 128,
) -> Figures:  # fmt: skip
    """Measure one run, or several with their mean and deviation; prints a table and a last line `RESULT {json}`.

    Args:
        data, test, train: data to use instead of the run's, the held-out split or file, and the split to learn from.
        columns: entries added to the recipe's `data.columns`.
        space: a space's name, or "features" for the encoder's own output; default: the recipe's choice.

    Returns:
        The figures of the only run, or the means.

    Raises:
        InputError: a folder is not a finished run; or see `measured`.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # several processes were launched: join them
        from multicl.running.accelerator import meet

        meet()
    world = World.current()
    tables, spans = dict[str, Figures](), dict[str, dict[str, list[float]]]()
    for run in runs:
        recipe, model = opened(run, data, test, columns), load(run)
        held = recipe.data.open(recipe.data.test)
        learnt = recipe.data.open(train) if LEARNS & set(names) else None
        there = (learnt and learnt.names) or []
        held.check_mapped({name: column for name, column in (columns or {}).items() if column not in there})
        subject = Subject(model, held, learnt, space=space_named(space), batch_size=batch_size, world=world)
        found = measured(subject, names, choices)
        tables[str(run)], spans[str(run)] = rounded(found), intervals(found, seed=choices.seed)
    result: dict[str, object] = {"runs": list(tables), "measures": list(names)}
    if len(runs) == 1:
        ((_, figures),) = tables.items()
        result |= {**figures, "intervals": spans[str(runs[0])]}
        table = figures_table({"figure": figures}, spans[str(runs[0])])
    else:
        over = spread(list(tables.values()))
        figures = {name: s.mean for name, s in over.items()}
        deviations = {name: s.deviation for name, s in over.items()}
        table = figures_table({**tables, "mean": figures, "deviation": deviations})
        result |= {"mean": rounded(figures), "deviation": rounded(deviations), "each": tables, "intervals": spans}
    if is_main():
        print(table)
        print("RESULT " + to_json(result), flush=True)
    return figures


LEARNS = {"knn", "linear_probe", "few_shot", "fine_tune"}
"""Measures that learn from training rows."""
