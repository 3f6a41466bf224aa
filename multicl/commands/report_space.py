"""What a report shows of held-out rows: points on the map, searches and failures, cosines, confusion, credits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import PurePath

import numpy as np
import torch
from torch import Tensor

from multicl.commands.subject import Subject
from multicl.data.cells import file_of, is_null
from multicl.data.rows import Rows
from multicl.evaluation import ranks
from multicl.evaluation.crossing import abouts, numbered
from multicl.evaluation.own_views import two_views
from multicl.graph import column_of
from multicl.pairs import Pair
from multicl.report.charts import Chart, confusion, cosines
from multicl.report.items import Item, Search
from multicl.report.media import thumbnail, within
from multicl.types import BadSample, InputError

LABELS = ("class", "category", "label")
CREDITS = ("license", "licence", "attribution", "credit", "author", "source")
ROOM = 5_000_000
"""Bytes of base64 media on the page at most; the rest of the page takes 2.2 MB."""
EACH_WAY = 8
"""Searches shown per direction: half of them correct, half wrong, if there are enough of both."""
WORST = 6


@dataclass
class Shown:
    """The parts of the page that come from held-out rows."""

    items: list[Item] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)
    failures: list[Search] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    credits: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def show(subject: Subject, label: str | None = None) -> Shown:
    """Gather everything to show from the subject's test rows.

    Args:
        label: column of classes; None: the first of LABELS that exists.

    Raises:
        InputError: there is no such column; no node's column is in the rows.
    """
    shown, rows = Shown(), subject.test
    nodes = _distinct(subject)
    if not nodes:
        raise InputError(f"{rows.label} has no column that the model's nodes {subject.model.nodes} read")
    column = label or next((name for name in LABELS if rows.has(name)), None)
    classes = _class_of_each(rows, column) if column else None
    pairs = [p for p in subject.model.towers.pairs if not p.symmetric and p.a in nodes and p.b in nodes]
    couples = [(p.a, p.b, p.ids) for p in pairs] or [(a, b, None) for a, b in combinations(nodes, 2)]
    names = _names(subject, nodes, classes)
    credits = _credits(subject)
    shown.credits = list(dict.fromkeys(c for c in credits if c))[:200]
    few = classes is not None and 2 <= len({c for c in classes if c}) <= 10
    items = {
        node: _items(subject, node, names, credits, classes if few and len(nodes) == 1 else None, len(nodes), shown)
        for node in nodes
    }
    shown.items = [item for of_node in items.values() for item in of_node.values()]
    for a, b, ids in couples:
        _crossing(subject, a, b, ids, items, shown)
    if classes is not None:
        for node in nodes:
            if any(classes[row] for row in items[node]):
                _classes(subject, node, classes, items[node], shown, searches=len(nodes) == 1)
                break
    for node in nodes:
        if len(nodes) == 1 or any(p.symmetric and p.a == node for p in subject.model.towers.pairs):
            _own_views(subject, node, shown)
    return shown


def _class_of_each(rows: Rows, column: str) -> list[str | None]:
    """Each row's class, by name if the data name their class numbers; None for a row without a class."""
    names = rows.class_names(column)
    cells = rows.column(column)
    return [None if is_null(c) or c == -1 else names[c] if names and isinstance(c, int) else str(c) for c in cells]


def _distinct(subject: Subject) -> list[str]:
    """The nodes that show different things; of several encoders of the same source, the first."""
    modalities = subject.model.towers.modalities
    return list({(column_of(n, modalities[n]), modalities[n].source): n for n in reversed(subject.nodes())}.values())[
        ::-1
    ]


def _names(subject: Subject, nodes: Sequence[str], classes: Sequence[str | None] | None) -> list[str]:
    """A name for each row: its text, if a node reads texts; else its class, its file or its number."""
    for node in nodes:
        cells = subject.cells(node, subject.test)
        if (
            all(cell is None or isinstance(cell, str) for cell in cells)
            and not subject.model.towers.modalities[node].files
        ):
            return [f"row {i}" if cell is None else cell[:120] for i, cell in enumerate(cells)]
    if classes is not None and len(nodes) == 1:
        return [name or f"row {i}" for i, name in enumerate(classes)]
    names = [f"row {i}" for i in range(len(subject.test))]
    for node in reversed(nodes):
        files = subject.model.towers.modalities[node].files
        found = (file_of(cell, files) for cell in subject.cells(node, subject.test))
        names = [name if file is None else PurePath(file).name for name, file in zip(names, found, strict=True)]
    return names


def _credits(subject: Subject) -> list[str]:
    columns = [subject.test.column(name) for name in CREDITS if subject.test.has(name)]
    return [", ".join(str(c) for c in cells if not is_null(c) and c != "") for cells in zip(*columns, strict=True)] or [
        ""
    ] * len(subject.test)


def _items(
    subject: Subject, node: str, names: Sequence[str], credits: Sequence[str],
    classes: Sequence[str | None] | None, among: int, shown: Shown,
) -> dict[int, Item]:  # fmt: skip
    """Row -> its item on the map, for the rows that have the node."""
    z, rows = subject.vectors(node)
    modality, cells = subject.model.towers.modalities[node], subject.cells(node, subject.test)
    room = ROOM // among
    media: list[tuple[str, bytes] | None] = []
    for row in rows:
        try:
            media.append(thumbnail(*modality.preview(cells[row]), most=room * 3 // 4 // len(rows)))
        except BadSample:  # it can be embedded, but not shown
            media.append(None)
    kept = within(media, room)
    if (left := sum(m is not None and k is None for m, k in zip(media, kept, strict=True))) > 0:
        shown.notes.append(f"{left:,} of {len(rows):,} things of {node} are on the map by name only, to save space.")
    return {
        row: Item(
            node, names[row], z[at], kept[at], credit=credits[row], group=(classes[row] or "?") if classes else ""
        )
        for at, row in enumerate(rows)
    }


def _found(query: Item, cos: Tensor, items: Sequence[Item], true: Tensor, k: int, split: str = "") -> Search:
    """The k nearest of M items to a query; `cos`: [M] cosines, `true`: [M] bool, which items are correct."""
    best = cos.topk(min(k, len(items))).indices.tolist()
    asked = query if not split else Item(query.node, query.label, query.vector, query.media, split, query.credit)
    return Search(asked, [(items[i], float(cos[i])) for i in best], [bool(true[i]) for i in best])


def _crossing(
    subject: Subject, a: str, b: str, ids: str | None, items: dict[str, dict[int, Item]], shown: Shown
) -> None:
    """Add searches in both directions, the worst failures, and cosines of matching and of different rows to `shown`."""
    (za, zb), rows = subject.together(a, b)
    values = abouts(subject.test, ids or (a, b), subject.model.towers.modalities)
    assert values is not None
    about = numbered([values[row] for row in rows])
    keys = [each if isinstance(each, list) else [each] for each in about]
    for x, y, z, w in ((a, b, za, zb), (b, a, zb, za)):
        found, there = ranks(z, w, keys, keys), [items[y][row] for row in rows]
        order = np.random.default_rng(1).permutation(len(rows)).tolist()
        hits, misses = ([i for i in order if (found[i] > 1) == wrong] for wrong in (False, True))
        worst = [i for i in found.argsort(descending=True)[:WORST].tolist() if found[i] > 1]
        asked = [(i, 5, "") for i in [*hits[: EACH_WAY // 2], *misses[: EACH_WAY // 2]]]
        asked += [(i, 3, f"right at rank {int(found[i]):,}") for i in worst]
        for i, k, split in asked:
            true = torch.tensor([not {*key}.isdisjoint(keys[i]) for key in keys])
            search = _found(items[x][rows[i]], w @ z[i], there, true, k, split)
            (shown.failures if split else shown.searches).append(search)
    note = (
        f"For each direction, {EACH_WAY // 2} correct and {EACH_WAY // 2} wrong searches are shown, if there are any."
    )
    shown.notes += [note] if note not in shown.notes else []
    positive = (za * zb).sum(1)
    dice = np.random.default_rng(2)
    i, j = (torch.from_numpy(dice.integers(0, len(rows), 20_000)) for _ in range(2))
    apart = torch.tensor([{*keys[p]}.isdisjoint(keys[q]) for p, q in zip(i.tolist(), j.tolist(), strict=True)])
    if bool(apart.any()):
        shown.charts.append(cosines(f"{a} and {b}", positive, (za[i] * zb[j]).sum(1)[apart]))


def _classes(
    subject: Subject, node: str, classes: Sequence[str | None], items: dict[int, Item], shown: Shown, searches: bool
) -> None:
    """Add the confusion matrix of each row's ten nearest others; `searches`: also searches and the surest mistakes."""
    z, rows = subject.vectors(node)
    kept = [at for at, row in enumerate(rows) if classes[row]]
    z, rows = z[kept], [rows[at] for at in kept]
    truth = [str(classes[row]) for row in rows]
    if len(set(truth)) < 2 or len(rows) < 12:
        return
    found = leave_one_out(z, truth, k=10)
    if len(set(truth)) <= 60:
        shown.charts.append(confusion(truth, found))
    if not searches:
        return
    cos = z @ z.T  # small: `report` limits the points, to 2000 by default
    cos.fill_diagonal_(-torch.inf)
    near = cos.max(1)
    there = [items[row] for row in rows]
    number = torch.tensor([sorted(set(truth)).index(name) for name in truth])
    same = number[:, None] == number
    order = np.random.default_rng(1).permutation(len(rows)).tolist()
    shown.searches += [_found(there[i], cos[i], there, same[i], 5) for i in order[: 2 * EACH_WAY]]
    wrong = [i for i in near.values.argsort(descending=True).tolist() if not same[i, near.indices[i]]]
    shown.failures += [_found(there[i], cos[i], there, same[i], 3, "surest mistakes") for i in wrong[: 2 * WORST]]


def leave_one_out(z: Tensor, labels: Sequence[str], k: int) -> list[str]:
    """For each row of unit vectors z [N, D], the class that its k nearest other rows vote for."""
    names = list(dict.fromkeys(labels))
    number = torch.tensor([names.index(label) for label in labels])
    found: list[str] = []
    for at in range(0, len(z), 1024):
        cos = z[at : at + 1024] @ z.T
        cos.diagonal(offset=at).fill_(-torch.inf)
        value, near = cos.topk(min(k, len(z) - 1), dim=1)
        votes = torch.zeros(len(cos), len(names)).scatter_add_(1, number[near], ((value - value[:, :1]) / 0.1).exp())
        found += [names[vote] for vote in votes.argmax(1).tolist()]
    return found


def _own_views(subject: Subject, node: str, shown: Shown) -> None:
    """Add the cosines of two random views of one thing, beside those of different things, to `shown`."""
    towers, modality = subject.model.towers, subject.model.towers.modalities[node]
    spaces = [p.space for p in towers.pairs if isinstance(p, Pair) and node in (p.a, p.b)]
    space = subject.model.space
    if space not in spaces:
        space = spaces[0] if spaces else None
    cells = [c for c in subject.cells(node, subject.test) if c is not None][:256]
    towers.eval()
    with torch.no_grad():
        a, b, read = two_views(
            lambda _, batch: towers.embed(node, batch.to(towers.device), [space])[0], modality, node, cells, "report"
        )
    if len(read) < 2:
        return
    a, b = (torch.nn.functional.normalize(side, dim=1) for side in (a, b))
    apart = ~torch.eye(len(read), dtype=torch.bool)
    shown.charts.append(cosines(f"two views of {node}", (a * b).sum(1), (a @ b.T)[apart]))
