"""Zero-shot classification: a class is the mean of its prompts' unit vectors (CLIP, arXiv:2103.00020, 3.1.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from multicl.evaluation.checks import features, positive, unit
from multicl.types import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence


def filled(names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Every class name in every template, the templates of one name together: "a photo of a {}" -> "a photo of a cat".

    Raises:
        InputError: no name, no template, or a template without its place for the name, {}.
    """
    if not names or not templates:
        raise InputError(f"zero-shot needs names of classes and templates, got {list(names)} and {list(templates)}")
    for template in templates:
        if template.count("{}") != 1:
            raise InputError(f"a template needs one {{}}, where the name goes, got {template!r}")
    return [template.replace("{}", name) for name in names for template in templates]


def class_vectors(prompts: Tensor, classes: int) -> Tensor:
    """[C * T, D] vectors of prompts, in the order of `filled` -> [C, D] unit vectors, the ensemble of each class.

    Raises:
        InputError: not as many prompts for each class, NaN, or no float.
    """
    prompts = unit(features("prompts", prompts))
    if classes < 1 or len(prompts) % classes:
        raise InputError(f"{len(prompts)} prompts are not as many for each of {classes} classes")
    return F.normalize(prompts.view(classes, -1, prompts.shape[1]).mean(1), dim=1)


def zero_shot(queries: Tensor, vectors: Tensor, truth: Sequence[int] | Tensor, ks: Sequence[int] = (1, 5)) -> dict[
    str, float
]:  # fmt: skip
    """How often a query's class is among the k nearest, by cosine; classes that are no nearer than it come first.

    Args:
        queries: [N, D]. vectors: [C, D], of `class_vectors`. truth: [N] number of each query's class.

    Returns:
        `accuracy@k` for every k below C, and `mean_recall`, accuracy@1 averaged over the classes that occur.

    Raises:
        InputError: shapes that do not fit, NaN, k not above 0, a number that is no class's.
    """
    for k in ks:
        positive("ks", k)
    queries = features("queries", queries)
    vectors = features("vectors", vectors, like=("queries", queries))
    right = torch.as_tensor(truth, dtype=torch.int64, device=queries.device)
    if right.shape != (len(queries),):
        raise InputError(f"truth has {len(right)} entries for {len(queries)} queries")
    if len(right) and not 0 <= int(right.min()) <= int(right.max()) < len(vectors):
        raise InputError(f"truth must be in [0, {len(vectors)}), got {int(right.min())} to {int(right.max())}")
    cos = unit(queries) @ unit(vectors).T  # [N, C]
    own = cos.gather(1, right[:, None])
    tie = 8 * torch.finfo(cos.dtype).eps
    rank = (cos >= own - tie).sum(1)  # itself among them
    out = {f"accuracy@{k}": float((rank <= k).double().mean()) for k in ks if k == 1 or k < len(vectors)}
    each = [float((rank[right == c] <= 1).double().mean()) for c in right.unique().tolist()]
    return {**out, "mean_recall": sum(each) / len(each)}
