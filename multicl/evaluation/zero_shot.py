"""Zero-shot classification: a class is the mean of its prompts' unit vectors (CLIP, arXiv:2103.00020, 3.1.4)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from multicl.distributed import World
from multicl.evaluation.checks import Ids, codes, features, positive, unit
from multicl.evaluation.figure import Figure, mean_of
from multicl.evaluation.tiles import by_slices, tile_rows
from multicl.types import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence


def filled(names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Every class name in every template ("a photo of a {}" -> "a photo of a cat"), grouped by name.

    Args:
        templates: an entry that ends in .txt is a file of templates, one a line.

    Raises:
        InputError: no name, no template, a template without exactly one {} for the name, or a file that cannot be read.
    """
    templates = [line for template in templates for line in _lines(template)]
    if not names or not templates:
        raise InputError(f"zero-shot needs class names and templates, got {list(names)} and {list(templates)}")
    for template in templates:
        if template.count("{}") != 1:
            raise InputError(f"a template needs exactly one {{}}, for the class name, got {template!r}")
    return [template.replace("{}", name) for name in names for template in templates]


def _lines(template: str) -> list[str]:
    """The template itself, or the templates in a file."""
    if not template.endswith(".txt"):
        return [template]
    try:
        lines = Path(template).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise InputError(f"the template file {template} cannot be read: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def class_vectors(prompts: Tensor, classes: int) -> Tensor:
    """[C * T, D] vectors of prompts, in the order of `filled` -> [C, D] unit vectors, the ensemble of each class.

    Raises:
        InputError: unequal numbers of prompts per class, NaN, or not floating-point.
    """
    prompts = unit(features("prompts", prompts))
    if classes < 1 or len(prompts) % classes:
        raise InputError(f"{len(prompts)} prompts cannot be divided evenly among {classes} classes")
    return F.normalize(prompts.view(classes, -1, prompts.shape[1]).mean(1), dim=1)


def zero_shot(
    queries: Tensor, vectors: Tensor, truth: Sequence[int] | Tensor, ks: Sequence[int] = (1, 5),
    world: World | None = None,
) -> dict[str, float]:  # fmt: skip
    """How often a query's class is among the k nearest by cosine; ties count against it.

    Args:
        queries: [N, D]. vectors: [C, D], of `class_vectors`. truth: [N] number of each query's class.
        world: ranks that share the queries; all must call this with the same arguments.

    Returns:
        `accuracy@k` for k = 1 and every k below C, and `mean_recall`, accuracy@1 averaged over the classes that occur.

    Raises:
        InputError: shapes that do not fit, NaN, k not above 0, or a class number out of range.
    """
    for k in ks:
        positive("ks", k)
    queries = features("queries", queries)
    vectors = features("vectors", vectors, like=("queries", queries))
    right = torch.as_tensor(truth, dtype=torch.int64).cpu()
    if right.shape != (len(queries),):
        raise InputError(f"truth has {len(right)} entries for {len(queries)} queries")
    if len(right) and not 0 <= int(right.min()) <= int(right.max()) < len(vectors):
        raise InputError(f"truth must be in [0, {len(vectors)}), got {int(right.min())} to {int(right.max())}")
    rank = _ranks(queries, vectors, right, world=world)
    out: dict[str, float] = {f"accuracy@{k}": mean_of(rank <= k) for k in ks if k == 1 or k < len(vectors)}
    out["mean_recall"] = Figure(_mean_recall(rank, right), len(rank), lambda i: _mean_recall(rank[i], right[i]))
    return out


def zero_shot_accuracy(
    x: Tensor,
    labels: Ids,
    descriptions: Tensor,
    described: Ids,
    chunk: int = 1024,
    world: World | None = None,
) -> Figure:
    """Share of rows whose nearest class is the true one; classes and labels are matched by value.

    Args:
        x: [N, D] vectors, of pictures, say.
        labels: [N] ints or strings.
        descriptions: [C, D] vectors of descriptions of classes; several of one class are averaged as unit vectors.
        described: [C] the class of each description; a label without a description is never right.
        chunk: rows at a time. world: ranks that share the rows; all must call this with the same arguments.

    Returns:
        Accuracy in [0, 1]. A tie between a true and a false class counts as wrong: a collapsed model knows nothing.

    Raises:
        InputError: shapes that do not fit, NaN, or a single class.
    """
    positive("chunk", chunk)
    x = features("x", x)
    descriptions = features("descriptions", descriptions, like=("x", x)).to(x.dtype)
    of, truth = codes(("described", described, len(descriptions)), ("labels", labels, len(x)))
    classes = int(of.max()) + 1
    if classes < 2:
        raise InputError("described holds a single class; zero-shot needs at least two")
    sums = descriptions.new_zeros(classes, descriptions.shape[1])
    centres = F.normalize(sums.index_add_(0, of.to(x.device), unit(descriptions)), dim=1)
    known = torch.where(truth < classes, truth, -1)
    return mean_of(_ranks(x, centres, known, chunk, world) == 1)


def _ranks(x: Tensor, vectors: Tensor, truth: Tensor, chunk: int = 1024, world: World | None = None) -> Tensor:
    """[N] int64 on the CPU: rank of each row's class among all, from 1 and last in a tie; truth -1 ranks behind all."""
    rows, vectors, truth = unit(x), unit(vectors).to(x.dtype), truth.to(x.device)
    tie = 8 * torch.finfo(x.dtype).eps

    def place(part: slice) -> Tensor:
        cos, wanted = rows[part] @ vectors.T, truth[part, None]
        own = cos.gather(1, wanted.clamp(min=0))
        rank = (cos >= own - tie).sum(1)  # includes itself
        return torch.where(wanted[:, 0] < 0, len(vectors) + 1, rank)

    return by_slices(len(x), tile_rows(chunk, len(vectors)), place, truth[:0], world or World()).cpu()


def _mean_recall(rank: Tensor, right: Tensor) -> float:
    each = [float((rank[right == c] <= 1).double().mean()) for c in right.unique().tolist()]
    return sum(each) / len(each)
