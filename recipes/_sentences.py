"""What recipes on sentences measure: scored pairs, labelled texts, and bags of words as a baseline."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from multicl import InputError, Modality
from multicl.data.rows import Rows, open_rows
from multicl.evaluation import held_out
from multicl.modalities.text import Text


def scored(names: Sequence[str], split: str) -> dict[str, Rows]:
    """Name -> a split of each set of scored pairs; ("seven",): the paper's; ("none",): no set.

    Raises:
        InputError: no name, two whose last parts are the same, or a set that cannot be loaded.
    """
    if tuple(names) == ("none",):
        return {}
    names = held_out.SEVEN if tuple(names) == ("seven",) else names
    try:
        sets = {Path(name).name: open_rows(name, split=split) for name in names}
    except InputError as error:  # the default is a hub name, which the user may not have asked for
        raise InputError(f"--sts: {error}. To leave out its figures: --sts none") from error
    if not sets or len(sets) < len(names):
        raise InputError(f"--sts: give one name, or several with different last parts, got {' '.join(names) or 'none'}")
    return sets


def correlation(embed: held_out.Embed, node: str, names: Sequence[str], split: str) -> held_out.Figures:
    """Spearman's correlation with human scores for one set, or for each of several and their mean; for "none", {}."""
    sets = scored(names, split)
    if not sets:
        return {}
    return held_out.sts(embed, node, *sets.values()) if len(sets) == 1 else held_out.sts_sets(embed, node, sets)


def dev_correlation(embed: held_out.Embed, node: str, names: Sequence[str], split: str) -> held_out.Figures:
    """The mean correlation over sets, one figure by which a run can choose its best step; for "none", {}."""
    found = [held_out.sts(embed, node, rows)["sts_spearman"] for rows in scored(names, split).values()]
    return {"dev_spearman": sum(found) / len(found)} if found else {}


def probes(embed: held_out.Embed, node: str, text: Text, names: Sequence[str]) -> held_out.Figures:
    """Accuracy of a linear probe on each set of labelled texts: columns text and label, splits train and test."""
    nodes: dict[str, Modality] = {node: replace(text, column="text")}
    figures: held_out.Figures = {}
    for name in names:
        train, test = (open_rows(name, split=split) for split in ("train", "test"))
        figures[f"linear_{Path(name).stem}"] = held_out.linear(embed, nodes, [node], train, test, "label")["linear"]
    return figures


def bag_of_words(node: str, cells: Sequence[Any], skipped: dict[int, str]) -> torch.Tensor:
    """[N, 8192] log counts of hashed words: the baseline."""
    z = torch.zeros(len(cells), 1 << 13)
    for i, cell in enumerate(cells):
        for word, times in Counter(cell.lower().replace(".", " ").replace(",", " ").split()).items():
            z[i, int.from_bytes(word.encode(), "little") % 8191] += math.log1p(times)
    return z
