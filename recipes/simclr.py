r"""SimCLR (arXiv:2002.05709): two augmented views of each picture agree, all other pictures are negatives.

accelerate launch recipes/simclr.py --data.path uoft-cs/cifar10 --data.columns image img
python recipes/simclr.py --image.encoder small --image.stem default --train.batch-size 256 --train.steps 600 \
    --bank 20000

Measured with the second command on CIFAR-10 as JPEG, a budget for a CPU (two runs on an H100 in float32, one on a CPU;
benchmarks/seeds.py), mean and deviation of three seeds: kNN 47.3 +- 0.5 %, linear probe 54.2 +- 0.4 %; untrained 35.7
and 43.3 %, raw pixels 28.6 and 40.2 %. On an H100 in bf16, 900 steps of the first command (9 epochs): 57.7 %,
untrained 36.4 %.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import multicl
from multicl import Data, Head, InfoNCE, Modality, Optim, Pair, Train
from multicl.evaluation import held_out, own_views
from multicl.modalities.image import Image


@dataclass(frozen=True, kw_only=True)
class Recipe(multicl.Run):
    """SimCLR on pictures, with labels for the probe if there are any."""

    image: Image = Image("resnet18", stem="cifar", pretrained=False, size=32)
    objective: InfoNCE = InfoNCE(0.5)
    data: Data = field(default_factory=lambda: Data(path="uoft-cs/cifar10", columns={"image": "img"}))
    train: Train = Train(batch_size=512, epochs=200, lr=1e-3)
    optim: Optim = Optim(weight_decay=1e-4)
    head: Head = Head(dim=128, layers=2, norm="batch")
    label: str | None = "label"
    """Column of the labels for the probe; None: there are no labels, and the figures say how well views of a picture
    find each other."""
    bank: int = 50_000
    """Number of training pictures among which the probe finds neighbours."""

    space: ClassVar[str | None] = None  # the probe uses the encoder's features, as in the paper

    def modalities(self) -> dict[str, Modality]:
        """One node."""
        return {"image": self.image}

    def terms(self) -> list[Pair]:
        """NT-Xent between two strong views."""
        return [Pair("image", "image", self.objective)]

    def probe(self, embed: held_out.Embed) -> dict[str, float]:
        """Nearest neighbours and a linear probe on the held-out split."""
        assert self.label is not None
        bank, test = held_out.bank(self.data.open(), self.bank, self.label), self.data.open(self.data.test)
        return held_out.probes(embed, self.modalities(), ["image"], bank, test, self.label)

    def find_views(self, embed: own_views.EmbedBatch) -> dict[str, float]:
        """How well views of held-out pictures find each other, for data without labels."""
        return own_views.own_views(embed, self.modalities(), "image", self.data.open(self.data.test))

    def measure(self, model: multicl.Model) -> dict[str, float]:
        """The model's figures."""
        return self.probe(held_out.of_model(model)) if self.label else self.find_views(own_views.of_model(model))

    def baseline(self) -> dict[str, float]:
        """Figures of raw pixels."""
        return self.probe(held_out.of_raw(self.modalities())) if self.label else self.find_views(own_views.of_raw())


if __name__ == "__main__":
    multicl.launch(Recipe)
