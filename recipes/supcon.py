r"""SupCon (arXiv:2004.11362): pictures of one class agree, in all their views; pictures of other classes are negatives.

accelerate launch recipes/supcon.py --data.path uoft-cs/cifar10 --data.columns image img
python recipes/supcon.py --image.encoder small --image.stem default --train.batch-size 256 --train.steps 600 \
    --bank 20000

Measured with the second command on CIFAR-10 as JPEG (labels of all 50,000), 35 minutes of one CPU core: kNN 60.8 %,
linear probe 64.3 %; untrained 36.1 and 42.3 %, raw pixels 28.6 and 40.2 %. Over three seeds, two of them
on an H100, 60.4 +- 0.8 and 63.7 +- 0.6 % (benchmarks/seeds.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import multicl
from multicl import Pair, SupCon
from multicl.recipes import simclr


@dataclass(frozen=True, kw_only=True)
class Recipe(simclr.Recipe):
    """SimCLR with labels as ids; rows without a label (null, -1) are each their own class: semi-supervision."""

    objective: SupCon = SupCon(0.1)  # type: ignore[assignment]  # in place of InfoNCE
    label: str = "label"
    """Column of the labels for training and the probe."""

    def terms(self) -> list[Pair]:
        """Two strong views; rows of equal label are positives of each other (the paper's L_out)."""
        return [Pair("image", "image", self.objective, ids=self.label)]


if __name__ == "__main__":
    multicl.launch(Recipe)
