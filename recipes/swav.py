r"""SwAV (arXiv:2006.09882): two views and small parts of each picture belong to the same prototypes; no negatives.

accelerate launch recipes/swav.py --data.path uoft-cs/cifar10 --data.columns image img
python recipes/swav.py --image.encoder small --image.stem default --train.batch-size 256 --train.steps 300 \
    --objective.prototypes 300 --objective.frozen-steps 30 --local-draws 2 --bank 20000

Measured with the second command on CIFAR-10 as JPEG, 23 minutes on a shared CPU core: kNN 38.2 %;
untrained 36.1 %, raw pixels 28.6 %. The loss went from 5.9 to 5.3: these are few steps for SwAV.
"""

from __future__ import annotations

from dataclasses import dataclass

import multicl
from multicl import Head, Pair, SwAV
from multicl.recipes import simclr


@dataclass(frozen=True, kw_only=True)
class Recipe(simclr.Recipe):
    """Clusters of pictures; training, data and probe are those of the recipe simclr."""

    objective: SwAV = SwAV(3000, frozen_steps=97)  # type: ignore[assignment]
    """frozen_steps: an epoch of CIFAR-10, as the paper's 313 are one of ImageNet."""
    local_draws: int = 6
    """Number of small views of each picture, besides the two whole ones."""
    queue: int = 0
    """Number of earlier embeddings clustered with the batch, for batches with fewer rows than prototypes."""
    head: Head = Head(dim=128, layers=2, norm="batch")

    def terms(self) -> list[Pair]:
        """Whole views predict each other's codes, small ones those of both."""
        return [Pair("image", "image", self.objective, local_draws=self.local_draws, queue=self.queue)]


if __name__ == "__main__":
    multicl.launch(Recipe)
