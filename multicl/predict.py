"""Predictions of a trained target's classifier, and their accuracy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from multicl.data.classes import class_numbers
from multicl.data.rows import Rows
from multicl.evaluation.figure import mean_of
from multicl.targets import Target
from multicl.towers import Towers
from multicl.types import InputError

if TYPE_CHECKING:
    from multicl.model import Model


def target_of(towers: Towers, name: str | None = None, node: str | None = None) -> Target:
    """The one target with that name and node, if given.

    Raises:
        InputError: no target matches, or more than one.
    """
    named = [t for t in towers.targets if name is None or t.name == name]
    found = [t for t in named if node is None or t.node == node]
    if len(found) != 1:
        of = f" of {node!r}" if node else ""
        raise InputError(
            f"the model has {len(found) or 'no'} targets{of}{f' named {name!r}' if name else ''}; its targets are "
            f"{[t.name for t in towers.targets]}"
        )
    return found[0]


@torch.no_grad()
def probabilities(
    model: Model,
    target: Target,
    cells: Iterable[Any],
    batch_size: int = 128,
    skipped: dict[int, str] | None = None,
) -> Tensor:
    """[N, C] float32 on the CPU: the probabilities of the target's classes for each cell of its node.

    Args:
        skipped: as in `Model.embed_node`; the probabilities of such a cell are meaningless.

    Raises:
        InputError: a cell cannot be read, or the model was loaded and its objective is not multicl's own.
    """
    logits = getattr(model.towers.objectives[target.name], "logits", None)
    if logits is None:
        raise InputError(
            f"target {target.name!r}: its objective has no `logits`, which predicting needs (multicl's own have)"
        )
    h = model.embed_node(target.node, cells, space=None, batch_size=batch_size, normalize=False, skipped=skipped)
    found: Tensor = logits(h.to(model.towers.device)).softmax(1).cpu()
    return found


def accuracy(model: Model, rows: Rows, target: str | None = None, column: str | None = None) -> float:
    """Share of labelled rows that are classified correctly, in [0, 1], with its interval; see `hits`."""
    return mean_of(hits(model, rows, target, column))


def hits(model: Model, rows: Rows, target: str | None = None, column: str | None = None) -> Tensor:
    """[N] bool, for each labelled row that can be read: whether it is classified correctly.

    Args:
        target: its name, if there are several. column: of the labels; default: the target's.

    Raises:
        InputError: a label is not one of the classes, or no readable row has a label.
    """
    found = target_of(model.towers, target)
    truth = torch.from_numpy(class_numbers(found, rows.cells(column or found.column)))
    modality = model.towers.modalities[found.node]
    cells = rows.resolved(modality.column or found.node, modality.files)
    kept = [i for i in truth.ge(0).nonzero()[:, 0].tolist() if cells[i] is not None]
    skipped: dict[int, str] = {}
    best = probabilities(model, found, [cells[i] for i in kept], skipped=skipped).argmax(1)
    good = [at for at in range(len(kept)) if at not in skipped]
    if not good:
        raise InputError(f"{rows.label}: no readable row has a label for target {found.name!r}")
    return (best == truth[kept])[good]
