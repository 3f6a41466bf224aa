"""A term that is not a pair: a classifier of one node's features, trained on the rows that have a label."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from multicl.choices import check_settings
from multicl.objectives.cross_entropy import CrossEntropy
from multicl.types import InputError, Objective


@dataclass(frozen=True)
class Target:
    """Classify the rows of a node by a column of labels; other terms of the graph still learn from all rows.

    The classifier works on the encoder's features, not on those of a projection head. It reads the first strong view of
    the node if a pair already uses that, otherwise a weak one.
    """

    node: str
    column: str
    """Labels, strings or numbers. Null and -1 mean unlabelled."""
    objective: Objective = field(default_factory=CrossEntropy)
    """Built with (width of the features, number of classes). Its module's forward(rows, context) finds the classes in
    `rows.id`, -1 for unlabelled rows; its method logits(h) is used to predict."""
    weight: float = 1.0
    name: str = ""
    """Default "node-column"."""
    classes: tuple[str, ...] = ()
    """Empty: all values of the column, sorted; a trained model keeps them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(map(str, self.classes)))
        if not self.name:
            object.__setattr__(self, "name", f"{self.node}-{self.column}")
        check_settings(self, f"target {self.name!r}: ")
        if not 0 <= self.weight < math.inf:
            raise InputError(f"target {self.name!r}: weight must be 0 or more, got {self.weight}")
        if not self.name.replace("-", "_").isidentifier():
            raise InputError(f"target name {self.name!r}: use only letters, digits, _ and - (give it a name=)")
        if len(set(self.classes)) != len(self.classes) or len(self.classes) == 1:
            raise InputError(f"target {self.name!r}: classes must be two or more, all different, got {self.classes}")
