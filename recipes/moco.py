r"""MoCo v2, v3 (arXiv:1911.05722, 2003.04297, 2104.02057): keys from slowly moving towers; v2 has a queue of them.

accelerate launch recipes/moco.py --data.path uoft-cs/cifar10 --data.columns image img
python recipes/moco.py --image.encoder small --image.stem default --train.batch-size 256 --train.steps 600 \
    --bank 20000
python recipes/moco.py --version v3 --objective.temperature 0.2 --head.dim 256 --head.hidden 4096 --head.norm batch \
    --head.centred --momentum.schedule cosine

Measured with the second command on CIFAR-10 as JPEG, a budget for a CPU (two runs on an H100 in float32, one on a CPU;
benchmarks/seeds.py), mean and deviation of three seeds: kNN 46.3 +- 0.2 %, linear probe 51.5 +- 0.8 %; with the flags
of the third 46.9 +- 0.5 and 53.9 +- 0.4 %; untrained 35.7 and 43.3 %, raw pixels 28.6 and 40.2 %. On an
H100 in bf16, 900 steps of the first command (9 epochs): 53.9 %.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import multicl
from multicl import Head, InfoNCE, Momentum, Pair, Predicted, Train
from multicl.recipes import simclr


@dataclass(frozen=True, kw_only=True)
class Recipe(simclr.Recipe):
    """MoCo on pictures with labels for the probe; the settings are those of its authors' CIFAR-10 demo."""

    version: Literal["v2", "v3"] = "v2"
    """v3: a predictor on the queries, both views as queries, and only the batch's keys, without a queue."""
    objective: InfoNCE = InfoNCE(0.1, both_directions=False)
    """both_directions: both views are queries, not only the first (their "symmetric loss"). in_batch: False takes
    negatives from the queue only, as in the paper; by default the batch's other keys are negatives, too."""
    hidden: int = 4096
    """Width of v3's predictor."""
    queue: int = 4096
    """Number of v2's keys from earlier batches; 65,536 for ImageNet."""
    keys: Literal["momentum", "online"] = "momentum"
    """"online": the queue holds the trained towers' own embeddings (XBM, arXiv:1912.06798)."""
    momentum: Momentum = Momentum(rate=0.99)
    train: Train = Train(batch_size=512, epochs=200, lr=1e-3)
    head: Head = Head(dim=128, layers=2)

    def terms(self) -> list[Pair]:
        """InfoNCE of two strong views against momentum keys and the queue; v3's is 2T times both directions' sum."""
        if self.version == "v3":
            objective = Predicted(replace(self.objective, both_directions=True), hidden=self.hidden)
            return [Pair("image", "image", objective, keys="momentum", weight=4 * self.objective.temperature)]
        return [Pair("image", "image", self.objective, keys=self.keys, queue=self.queue)]


if __name__ == "__main__":
    multicl.launch(Recipe)
