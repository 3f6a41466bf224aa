"""A pair: two nodes whose views must agree, and the views and comparisons that it needs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal, get_args

from multicl.choices import check_settings
from multicl.objectives.info_nce import InfoNCE
from multicl.objectives.nt_xent import NTXent
from multicl.objectives.predicted import Predicted
from multicl.objectives.sup_con import SupCon
from multicl.objectives.wrapper import check_objective, extras_of, layers
from multicl.settings import Mine
from multicl.types import InputError, Kind, MoreKeys, Objective


@dataclass(frozen=True)
class Pair:
    """An edge of the graph: two views that must agree.

    `Pair("image", "image")` compares two strong views of each image (SimCLR); `Pair("image", "text")` compares one weak
    view of each (CLIP), over the rows that have both.
    """

    a: str
    b: str
    objective: Objective = field(default_factory=InfoNCE)
    name: str = ""
    """Default "a-b"."""
    weight: float = 1.0
    ids: str | None = None
    """A column of labels, caption ids or image ids: rows of equal id are positives. Null and -1 mean unlabelled."""
    equal_ids: Literal["positive", "ignore"] = "positive"
    """"ignore": rows of equal id are neither positive nor negative."""
    negatives: str | None = None
    """A node whose cells are explicit hard negatives for a's rows; null where a row has none."""
    target: str | None = None
    """A column that says how similar the two sides of a row should be: graded scores (CoSENT), or 0 and 1 (Margin);
    null: unknown for this row."""
    mine: Mine | None = None
    """Add hard negatives for a's rows, mined from all rows of b (for a pair of one node, from all its other rows)."""
    keys: Literal["online", "momentum"] = "online"
    """"momentum": keys come from momentum towers, a slowly moving copy (MoCo), and only queries get gradients."""
    queue: int = 0
    """Number of keys of the last batches that serve as further negatives, for each side that has keys; 0: none."""
    draws: int = 2
    """For a pair of one node: number of strong views, each compared with every other."""
    local_draws: int = 0
    """For a pair of one node: number of small views (multi-crop), which are compared with the strong ones only."""
    crossed: bool = False
    """For a pair of two nodes: draw two strong views, and compare the first of a with the second of b and vice versa.
    Nodes of one column then see two different random views, rather than the same one."""
    space: str = "joint"
    """Name of the space to compare in; there is one projection head per (tower, space)."""
    keys_from: Literal["both", "all"] = "both"
    """"all": rows that lack one side are keys as well."""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", f"{self.a}-{self.b}")
        check_settings(self, f"pair {self.name!r}: ")
        check_objective(f"pair {self.name!r}", self.objective)
        if not 0 <= self.weight < math.inf:
            raise InputError(f"pair {self.name!r}: weight must be 0 or more, got {self.weight}")
        if self.queue < 0:
            raise InputError(f"pair {self.name!r}: queue must be 0 or more, got {self.queue}")
        if self.draws < 2 or self.local_draws < 0:
            raise InputError(
                f"pair {self.name!r}: draws must be 2 or more and local_draws 0 or more, got {self.draws} and "
                f"{self.local_draws}"
            )
        if (self.draws > 2 or self.local_draws) and not self.symmetric:
            raise InputError(f"pair {self.name!r}: more than two draws need a pair of one node, not of two")
        if self.crossed and self.symmetric:
            raise InputError(f"pair {self.name!r}: crossed needs a pair of two nodes; one node's views always differ")
        if isinstance(self.objective, NTXent) and (self.keys == "momentum" or self.local_draws):
            raise InputError(
                f"pair {self.name!r}: NTXent cannot have keys='momentum' or local_draws, as its keys are its queries: "
                "use InfoNCE"
            )
        if not self.ids and any(isinstance(layer, SupCon) for layer in layers(self.objective)):
            raise InputError(f"pair {self.name!r}: SupCon needs labels: give their column as ids=, or use InfoNCE")
        predicted = any(isinstance(layer, Predicted) for layer in layers(self.objective))
        if predicted and self.keys != "momentum":
            raise InputError(f"pair {self.name!r}: a predictor needs momentum keys: give keys='momentum'")
        if isinstance(self.objective, NTXent) and not self.symmetric:
            raise InputError(f"pair {self.name!r}: NTXent compares two views of one node; for two nodes, use InfoNCE")
        if getattr(self.objective, "own_negative", 1.0) != 1 and not self.negatives:
            raise InputError(
                f"pair {self.name!r}: own_negative={self.objective.own_negative} weights a row's explicit negatives: "  # type: ignore[attr-defined]
                "give their node as negatives="
            )
        self._check_extras()
        self._check_target()
        for name in (self.name, self.space):
            if not name.replace("-", "_").isidentifier():
                raise InputError(f"pair name or space {name!r}: use only letters, digits, _ and -")

    def _check_extras(self) -> None:
        taken = extras_of(self.objective)
        if any(getattr(self, name) for name in get_args(MoreKeys) if name not in taken):
            *_, inner = layers(self.objective)
            what = "no explicit negatives" if "queue" in taken else "no queue and no explicit negatives"
            raise InputError(
                f"pair {self.name!r}: {type(inner).__name__} takes {what}: use a soft-max objective (InfoNCE)"
            )
        alone = not all(getattr(layer, "in_batch", True) for layer in layers(self.objective))
        if alone and not any(getattr(self, name) for name in get_args(MoreKeys)):
            raise InputError(
                f"pair {self.name!r}: in_batch=False needs negatives from outside the batch: "
                "give queue=, negatives= or mine="
            )

    def _check_target(self) -> None:
        kind, what = getattr(self.objective, "scores", None), type(self.objective).__name__
        if kind == "graded" and not self.target:
            raise InputError(f"pair {self.name!r}: {what} needs graded scores: give their column as target=")
        if not self.target:
            return
        if kind is None:
            raise InputError(
                f"pair {self.name!r}: {what} takes no target; use CoSENT for graded scores, Margin for 0/1"
            )
        for name in ("ids", "negatives", "mine"):
            if getattr(self, name):
                raise InputError(
                    f"pair {self.name!r}: target= already says how similar a row's two views are: leave out {name}="
                )
        if self.symmetric:
            raise InputError(f"pair {self.name!r}: target= needs two nodes; two views of one node always match")

    @property
    def symmetric(self) -> bool:
        """Whether both views are draws of one node."""
        return self.a == self.b

    @property
    def both_directions(self) -> bool:
        """Whether both sides' rows are queries; for some objectives only a's are."""
        return bool(getattr(self.objective, "both_directions", True))

    @property
    def calls(self) -> tuple[Call, ...]:
        """The comparisons that the objective is called for, in order; the pair's loss is their weighted sum."""
        return tuple(_calls(self))


@dataclass(frozen=True)
class View:
    """One draw of a node; computed once, however many pairs use it."""

    node: str
    kind: Kind
    draw: int
    mined: str = ""
    """Name of the pair whose mined rows this view shows; empty: the batch's own rows."""


@dataclass(frozen=True)
class Call:
    """One comparison of a pair."""

    a: View
    b: View
    both: bool = True
    """True: both sides' rows are queries; False: only a's are, and b's rows are their keys."""
    weight: float = 1.0
    momentum: bool = False
    """Whether the rows of b come from the momentum towers."""


def _calls(pair: Pair) -> Iterator[Call]:
    views: list[View] = []
    if pair.symmetric:
        views = [View(pair.a, "strong", draw) for draw in range(pair.draws)]
        compared = list(combinations(views, 2))
    elif pair.crossed:
        compared = [(View(pair.a, "strong", draw), View(pair.b, "strong", 1 - draw)) for draw in range(2)]
    else:
        compared = [(View(pair.a, "weak", 0), View(pair.b, "weak", 0))]
    crops = [View(pair.a, "local", draw) for draw in range(pair.local_draws)]
    ways: list[Call] = []
    for first, second in compared:
        if pair.keys == "online":
            ways.append(Call(first, second))
        else:
            ways.append(Call(first, second, both=False, momentum=True))
            if pair.both_directions:
                ways.append(Call(second, first, both=False, momentum=True))
    ways += [Call(crop, view, both=False, momentum=pair.keys == "momentum") for crop in crops for view in views]
    shares = [2 if way.both else 1 for way in ways]  # every direction weighs the same
    for way, share in zip(ways, shares, strict=True):
        yield replace(way, weight=share / sum(shares))


def negatives_view(pair: Pair) -> View:
    """The view of a pair's explicit negatives."""
    assert pair.negatives
    return View(pair.negatives, "weak", 0)


def mined_view(pair: Pair) -> View:
    """The view of a pair's mined negatives."""
    assert pair.mine
    return View(pair.b, "strong" if pair.symmetric else "weak", 0, pair.name)
