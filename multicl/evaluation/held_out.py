"""Evaluation measures on the rows of a data set: what recipes call before and after training.

Cells that are missing or cannot be read are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState
from torch import Tensor

from multicl.data.ids import label_key
from multicl.evaluation.figure import Figure, average_of
from multicl.evaluation.knn import knn_accuracy
from multicl.evaluation.linear_probe import linear_probe
from multicl.evaluation.sts import sts_mean_spearman, sts_spearman
from multicl.evaluation.triplets import triplet_accuracy
from multicl.types import BadSample, InputError, Modality
from multicl.waiting import Waiting

if TYPE_CHECKING:
    from multicl.data.rows import Rows
    from multicl.model import Model

Figures = dict[str, float]
Embed = Callable[[str, Sequence[Any], dict[int, str]], Tensor]
"""(node, cells, skipped) -> [N, D]; a cell that cannot be read gives a row of zeros and its reason in `skipped`."""


def of_model(model: Model) -> Embed:
    """Embeddings of a model, in its default space."""
    return lambda node, cells, skipped: model.embed_node(node, cells, skipped=skipped)


def renamed(embed: Embed, names: Mapping[str, str]) -> Embed:
    """`embed` under other names of nodes; `names`: name -> node."""
    return lambda node, cells, skipped: embed(names.get(node, node), cells, skipped)


def shortened(embed: Embed, width: int) -> Embed:
    """The first `width` dimensions of `embed`, which Matryoshka trains to be useful alone (arXiv:2205.13147)."""
    return lambda node, cells, skipped: embed(node, cells, skipped)[:, :width]


def of_raw(modalities: dict[str, Modality]) -> Embed:
    """Raw inputs as vectors (pixels, say), the baseline that a figure must beat; all inputs must have one size."""

    def embed(node: str, cells: Sequence[Any], skipped: dict[int, str]) -> Tensor:
        modality, rows = modalities[node], []
        with Waiting(len(cells), f"raw {node}", "row") as waiting:
            for i, cell in enumerate(cells):
                waiting.update(1)
                try:
                    batch = modality.view(modality.collate([modality.load(cell, None)]), None)
                except BadSample as error:
                    skipped[i] = str(error)
                    rows.append(torch.zeros(0))
                    continue
                rows.append(next(iter(batch.tensors.values())).flatten().float())
        size = max((len(r) for r in rows), default=0)
        return torch.stack([r if len(r) else torch.zeros(size) for r in rows])

    return embed


def bank(rows: Rows, count: int, label: str) -> Rows:
    """`count` labelled rows for a probe: the first, or rows spread evenly over the data if the first lack classes.

    Folders of classes, and many tables, are sorted by class. A stream gives its first rows.

    Raises:
        InputError: no such column of labels.
    """
    if not rows.has(label):
        raise InputError(
            f"{rows.label} has no column {label!r} of labels; it has {rows.names}. Name another with --label COLUMN, "
            "or measure without labels with --label None, in recipes that can"
        )
    if rows.streaming or count >= len(rows):
        return rows.first(count)
    labels = _keys(rows.column(label))
    if len({*map(str, labels[:count])}) == len({*map(str, labels)}):
        return rows.first(count)
    return rows.take([at * len(rows) // count for at in range(count)])


def knn(
    embed: Embed,
    modalities: dict[str, Modality],
    nodes: Sequence[str],
    bank: Rows,
    test: Rows,
    label: str,
    k: int = 200,
) -> Figures:
    """Weighted k-nearest-neighbour accuracy from the bank's labels (arXiv:1805.01978; T = 0.1).

    Several nodes are measured together: their unit vectors are concatenated (CMC).
    """
    (x, labels), (y, truth) = (_joined(embed, modalities, nodes, rows, label) for rows in (bank, test))
    return {f"knn_{k}": knn_accuracy(x, labels, y, truth, k=k)}


def leave_one_out(
    embed: Embed, modalities: dict[str, Modality], node: str, rows: Rows, label: str, group: str, k: int = 5,
    only: str | None = None,
) -> Figures:  # fmt: skip
    """Accuracy on the rows of each group (a speaker, say), classified from the labelled rows of all other groups.

    Args:
        only: measure this group alone; written as its cells are.

    Returns:
        By k nearest neighbours, "knn_K_worst" and "knn_K_GROUP" of each group, worst first; then "linear_worst" and
        "linear_GROUP" by logistic regression (`linear_probe`).
    """
    x, labels, groups = _joined(embed, modalities, [node], rows, label, group)
    measures: dict[str, Figures] = {f"knn_{k}": {}, "linear": {}}
    if len(set(groups)) < 2:
        raise InputError(f"{rows.label}: column {group!r} holds a single group; leaving it out leaves no rows")
    if only is not None and only not in map(str, groups):
        raise InputError(f"{rows.label}: column {group!r} holds no {only!r}; it has {sorted(set(map(str, groups)))}")
    for name in dict.fromkeys(groups):
        if only not in (None, str(name)):
            continue
        inside = torch.tensor([g == name for g in groups])
        bank, asked = ([v for v, i in zip(labels, inside, strict=True) if i == side] for side in (False, True))
        sides = x[~inside], bank, x[inside], asked
        measures[f"knn_{k}"][name] = knn_accuracy(*sides, k=k)
        measures["linear"][name] = linear_probe(*sides, strengths=(1e-1, 1e-2), max_iter=50).accuracy
    found: Figures = {}
    for measure, of in measures.items():
        worst = sorted(of.items(), key=lambda item: item[1])
        found |= {f"{measure}_worst": worst[0][1], **{f"{measure}_{name}": value for name, value in worst}}
    return found


def linear(
    embed: Embed, modalities: dict[str, Modality], nodes: Sequence[str], train: Rows, test: Rows, label: str,
    known: str | None = None,
) -> Figures:  # fmt: skip
    """Accuracy of logistic regression on frozen features; see `linear_probe`.

    Args:
        label: column of labels. known: that of the training rows, if it is another. Rows without a label are left out.
    """
    sides = ((train, known or label), (test, label))
    (x, labels), (y, truth) = (_joined(embed, modalities, nodes, rows, column) for rows, column in sides)
    return {"linear": linear_probe(x, labels, y, truth).accuracy}


def probes(
    embed: Embed, modalities: dict[str, Modality], nodes: Sequence[str], bank: Rows, test: Rows, label: str,
    k: int = 200,
) -> Figures:  # fmt: skip
    """`knn` and `linear`; of several nodes each alone ("linear_l") and all concatenated ("linear_l+ab"), as CMC does.

    Every row is embedded once. The regression takes at most 100 iterations at each strength, fewer than in `linear`.
    """
    (known, labels), (asked, truth) = (_apart(embed, modalities, nodes, rows, label) for rows in (bank, test))
    spans = [(0, len(nodes))] if len(nodes) == 1 else [*((i, i + 1) for i in range(len(nodes))), (0, len(nodes))]
    figures: Figures = {}
    for first, last in spans:
        x, y = (torch.cat(vectors[first:last], 1) for vectors in (known, asked))
        of = "_" + "+".join(nodes[first:last]) if len(nodes) > 1 else ""
        figures[f"knn_{k}{of}"] = knn_accuracy(x, labels, y, truth, k=k)
        figures[f"linear{of}"] = linear_probe(x, labels, y, truth, max_iter=100).accuracy
    return figures


def triplets(embed: Embed, nodes: Sequence[str], rows: Rows, modalities: dict[str, Modality]) -> Figures:
    """Share of the rows whose anchor is nearer to its positive than to its negative.

    Args:
        nodes: those of anchor, positive and negative; only rows that have all three count.
    """
    cells = [rows.resolved(modalities[node].column or node, modalities[node].files) for node in nodes]
    kept = [i for i in range(len(rows)) if all(column[i] is not None for column in cells)]
    skipped: dict[int, str] = {}
    z = [embed(node, [column[i] for i in kept], skipped) for node, column in zip(nodes, cells, strict=True)]
    good = [at for at in range(len(kept)) if at not in skipped]
    if not good:
        raise InputError(f"{rows.label}: no row has all of {list(nodes)}")
    anchors, positives, negatives = (side[good] for side in z)
    return {"triplets": triplet_accuracy(anchors, positives, negatives)}


SEVEN = (
    *("mteb/sts12-sts", "mteb/sts13-sts", "mteb/sts14-sts", "mteb/sts15-sts", "mteb/sts16-sts"),
    *("mteb/stsbenchmark-sts", "mteb/sickr-sts"),
)
"""The seven STS data sets of SimCSE's table on the hub; their split is "test"."""


def sts(embed: Embed, node: str, rows: Rows) -> Figures:
    """Spearman correlation of cosines and scores; the columns are sentence1, sentence2 and score."""
    return {"sts_spearman": sts_spearman(*_scored(embed, node, rows)[:3])}


def sts_sets(embed: Embed, node: str, sets: Mapping[str, Rows], part: str = "part") -> Figures:
    """`sts` of several sets, aggregated in two ways: over all pairs of a set at once, and as the mean over its parts.

    Args:
        sets: name -> rows. part: the column that names a pair's part of the set (MSRvid, headlines, ...); a set
            without it is a single part.

    Returns:
        "sts_NAME" of each set over all its pairs, "sts_average", the mean of these, and "sts_average_of_parts", that
        of the means over parts.
    """
    figures: dict[str, Figure] = {}
    means: list[Figure] = []
    for name, rows in sets.items():
        a, b, scores, good = _scored(embed, node, rows)
        figures[f"sts_{name}"] = sts_spearman(a, b, scores)
        if rows.has(part):
            parts = rows.column(part)
            means.append(sts_mean_spearman(a, b, scores, [str(parts[i]) for i in good]))
        else:
            means.append(figures[f"sts_{name}"])
    average = average_of(list(figures.values()))
    return {**figures, "sts_average": average, "sts_average_of_parts": average_of(means)}


def _scored(embed: Embed, node: str, rows: Rows) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """Embeddings of both sentences, scores and row numbers of the pairs that can be read."""
    scores: list[float] = []
    for i, score in enumerate(rows.column("score")):
        try:
            scores.append(float(score))
        except (TypeError, ValueError):
            raise InputError(
                f"{rows.label}: row {i}, column {rows.resolve('score')!r}: {score!r} is not a number"
            ) from None
    skipped: dict[int, str] = {}
    a, b = (embed(node, rows.column(column), skipped) for column in ("sentence1", "sentence2"))
    good = [i for i in range(len(scores)) if i not in skipped]
    if not good:
        raise InputError(f"{rows.label}: no row has two sentences that can be read")
    return a[good], b[good], torch.tensor(scores)[good], good


def _joined(
    embed: Embed, modalities: dict[str, Modality], nodes: Sequence[str], rows: Rows, *columns: str
) -> Any:  # fmt: skip
    """`_apart` with the nodes' vectors concatenated: [N, D], and the columns."""
    vectors, *cells = _apart(embed, modalities, nodes, rows, *columns)
    return torch.cat(vectors, 1), *cells


def _apart(embed: Embed, modalities: dict[str, Modality], nodes: Sequence[str], rows: Rows, *columns: str) -> Any:
    """Vectors [N, D] of each node and labels of each column, of readable rows that have all labels (see `label_key`).

    Vectors are on the run's GPU if it supports float64 (MPS does not): a probe takes seconds there, minutes on a CPU.
    """
    values, skipped = [_keys(rows.column(column)) for column in columns], dict[int, str]()
    kept = [i for i, row in enumerate(zip(*values, strict=True)) if None not in row]
    vectors = []
    for node in nodes:
        every = rows.resolved(modalities[node].column or node, modalities[node].files)
        cells = [every[i] for i in kept]
        skipped |= {at: "absent" for at, cell in enumerate(cells) if cell is None}
        vectors.append(embed(node, cells, skipped))
    good = [at for at in range(len(kept)) if at not in skipped]
    device = PartialState().device
    if device.type == "mps":
        device = torch.device("cpu")
    return [z[good].to(device) for z in vectors], *([column[kept[at]] for at in good] for column in values)


def _keys(cells: Sequence[Any]) -> list[Any]:
    """Labels as training knows them; a cell that cannot be a label is passed on for the measure to refuse."""
    return [cell if isinstance(cell, list | tuple | dict) else label_key(cell) for cell in cells]
