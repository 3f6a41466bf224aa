"""A term that is not a pair: a classifier of one node's features, trained by those rows that have a label."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from multicl.choices import check_settings
from multicl.objectives.cross_entropy import CrossEntropy
from multicl.types import InputError, Objective


@dataclass(frozen=True)
class Target:
    """Rows of a node are to be told apart by a column of labels; the rest of the graph learns from all rows.

    The classifier looks at the encoder's features, beside the projection heads. It sees the view that a pair of this
    node has made already, the first strong one; where there is no such pair, a weak one.
    """

    node: str
    column: str
    """Labels, strings or numbers. Null, -1: unlabelled."""
    objective: Objective = field(default_factory=CrossEntropy)
    """Built with (width of the features, number of classes). Its module's forward(rows, context) reads rows' classes in
    `rows.id`, -1 where there is none, and its logits(h) serve prediction."""
    weight: float = 1.0
    name: str = ""
    """Default "node-column"."""
    classes: tuple[str, ...] = ()
    """Empty: all that the column holds, in order; a trained model keeps them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(map(str, self.classes)))
        if not self.name:
            object.__setattr__(self, "name", f"{self.node}-{self.column}")
        check_settings(self, f"target {self.name!r}: ")
        if not 0 <= self.weight < math.inf:
            raise InputError(f"target {self.name!r}: weight must be 0 or more, got {self.weight}")
        if not self.name.replace("-", "_").isidentifier():
            raise InputError(f"target name {self.name!r}: use letters, digits, _ and - (give it a name=)")
        if len(set(self.classes)) != len(self.classes) or len(self.classes) == 1:
            raise InputError(f"target {self.name!r}: classes must be two or more, all different, got {self.classes}")
