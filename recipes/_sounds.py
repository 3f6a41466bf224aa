"""What recipes on sounds share: settings of training, and a probe of their encoders."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import cast

import multicl
from multicl import Head, LeaveOut, Optim, Train
from multicl.evaluation import held_out
from multicl.modalities.audio import Audio
from multicl.modalities.audio.stretched import log_mels


@dataclass(frozen=True, kw_only=True)
class Sounds(multicl.Run):
    """Sounds with labels for a probe of the held-out split or, if `data` has groups, of each group's sounds.

    The probe classifies the sounds of a group (such as a speaker) by those of all other groups; with `--data.left-out
    NAME`, only the sounds of that group, which training has not heard.
    """

    data: LeaveOut = field(default_factory=LeaveOut)
    train: Train = Train(batch_size=256, epochs=100, lr=1e-3)
    optim: Optim = Optim(weight_decay=1e-4)
    head: Head = Head(dim=128, layers=2)
    label: str = "label"
    """Column of the labels for the probe."""
    k: int = 5
    """Neighbours that vote in the probe."""

    space = None  # the probe uses the encoders' features

    def probe(self, embed: held_out.Embed, node: str) -> held_out.Figures:
        """Accuracy of k nearest neighbours and, for groups, of logistic regression."""
        nodes = self.modalities()
        if self.data.group is None:
            test = self.data.open(self.data.test)
            return held_out.knn(embed, nodes, [node], self.data.open(), test, self.label, self.k)
        rows = replace(self.data, left_out=None, batches="mixed").open()
        return held_out.leave_one_out(
            embed, nodes, node, rows, self.label, self.data.group, self.k, only=self.data.left_out
        )

    def measure(self, model: multicl.Model) -> held_out.Figures:
        """The model's figures; with several encoders, each with its node's name."""
        return self.probed(held_out.of_model(model))

    def probed(self, embed: held_out.Embed) -> held_out.Figures:
        """The figures of the probe for every node."""
        nodes = self.modalities()
        each = {node: self.probe(embed, node) for node in nodes}
        return {
            name if len(nodes) == 1 else f"{name}_{node}": value
            for node, figures in each.items()
            for name, value in figures.items()
        }

    def baseline(self) -> held_out.Figures:
        """Figures of log-mel spectrograms, stretched to one length."""
        nodes = cast("dict[str, Audio]", self.modalities())
        return self.probed(lambda node, cells, skipped: log_mels(nodes[node], cells, skipped))
