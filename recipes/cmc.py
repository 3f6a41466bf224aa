r"""CMC (arXiv:1906.05849): the lightness and the colours of one picture are two views of it that must agree.

accelerate launch recipes/cmc.py --data.path uoft-cs/cifar10 --data.columns image img
python recipes/cmc.py --l.encoder small --l.stem default --ab.encoder small --ab.stem default --train.batch-size 256 \
    --train.steps 600 --bank 20000

Measured with the second command on CIFAR-10 as JPEG, 8 minutes on 2 CPU cores: kNN of L 45.3 %, of
ab 41.5 %, of both 48.6 %; untrained 29.5, 30.7 and 34.5 %, raw pixels 28.6 %.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import multicl
from multicl import Data, Head, InfoNCE, InstanceNCE, Modality, Optim, Pair, Train
from multicl.evaluation import held_out
from multicl.modalities.image import Augment, Image

CROPS = Augment(crop=(0.2, 1.0), flip=0.5)
SIDE = Image("resnet18", column="image", stem="cifar", pretrained=False, size=32, weak=CROPS)


@dataclass(frozen=True, kw_only=True)
class Recipe(multicl.Run):
    """Two encoders look at one and the same crop: one sees L of Lab, the other ab."""

    l: Image = replace(SIDE, channels="L")  # noqa: E741  Lab's own name
    ab: Image = replace(SIDE, channels="ab")
    objective: InfoNCE = InfoNCE(0.07)
    nce: bool = False
    """As the paper trained: `instances` instead of `objective`. It wants a head with batch norm (`instdisc.py`)."""
    instances: InstanceNCE = InstanceNCE(0.07, negatives=16384)
    data: Data = field(default_factory=lambda: Data(path="uoft-cs/cifar10", columns={"image": "img"}))
    train: Train = Train(batch_size=512, epochs=200, lr=1e-3)
    optim: Optim = Optim(weight_decay=1e-4)
    head: Head = Head(dim=128, layers=1)
    label: str = "label"
    """Column of the labels that the probe knows."""
    bank: int = 50_000
    """Training pictures among which the probe looks for neighbours."""

    space = None

    def modalities(self) -> dict[str, Modality]:
        """Two encoders of one column: decoded and viewed once."""
        return {"l": self.l, "ab": self.ab}

    def terms(self) -> list[Pair]:
        """The two views of each picture; copies of a picture are never negatives."""
        return [Pair("l", "ab", self.instances if self.nce else self.objective)]

    def probe(self, embed: held_out.Embed, *nodes: str) -> float:
        """k-nearest-neighbour accuracy on the held-out split, the nodes' features side by side."""
        bank, test = self.data.open(f"{self.data.split}[:{self.bank}]"), self.data.open(self.data.test)
        return held_out.knn(embed, self.modalities(), nodes, bank, test, self.label)["knn_200"]

    def measure(self, model: multicl.Model) -> dict[str, float]:
        """Either side alone, and both as the paper probes them."""
        embed = held_out.of_model(model)
        return {f"knn_200_{'+'.join(nodes)}": self.probe(embed, *nodes) for nodes in (("l",), ("ab",), ("l", "ab"))}

    def baseline(self) -> dict[str, float]:
        """Raw pixels, all three channels."""
        return {"knn_200_l+ab": self.probe(held_out.of_raw(self.modalities()), "l")}


if __name__ == "__main__":
    multicl.launch(Recipe)
