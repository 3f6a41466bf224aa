r"""CMC (arXiv:1906.05849): the lightness and the colours of one picture are two views of it that must agree.

accelerate launch recipes/cmc.py --data.path uoft-cs/cifar10 --data.columns image img
python recipes/cmc.py --image.encoder small --image.stem default --train.batch-size 256 --train.steps 600 --bank 20000
python recipes/cmc.py --views L a b --graph core --crossed

Measured with the second command on CIFAR-10 as JPEG, three seeds: kNN of L 45.2 +- 0.5 %, of ab 41.5 +- 0.4 %, of both
48.5 +- 0.4 % (untrained 35.1, raw 28.6 %); linear probe 51.6 +- 0.9, 45.4 +- 0.6 and 58.3 +- 0.6 % (49.6, 40.2 %). All
views, one seed: `--views Y CbCr` 50.8 and 59.2 %; `--crossed`, two crops of a picture, 51.0 and 59.5 %; L, a and b 47.2
and 57.7 %, with `--graph core` 46.9 and 57.3 % (36.4, 51.2 %). kNN with the paper's NCE (benchmarks/budgets.py) 42.1 %.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import multicl
from multicl import Data, Head, InfoNCE, InstanceNCE, Modality, Optim, Pair, Train, core_view, full_graph
from multicl.evaluation import held_out
from multicl.modalities.image import Augment, Channels, Image

CROPS = Augment(crop=(0.2, 1.0), flip=0.5)


@dataclass(frozen=True, kw_only=True)
class Recipe(multicl.Run):
    """An encoder for each view of the same crop: one sees L of Lab, the other ab."""

    image: Image = Image("resnet18", column="image", stem="cifar", pretrained=False, size=32, weak=CROPS)
    views: tuple[Channels, ...] = ("L", "ab")
    """Channels, each with its own encoder; also Y CbCr, or three or more, such as L a b."""
    graph: Literal["full", "core"] = "full"
    """With three or more views: compare every two of them, or the first with each of the others."""
    crossed: bool = False
    """Augment each picture twice (`image.strong`), and compare views of one with the other channels of the other."""
    objective: InfoNCE = InfoNCE(0.07)
    nce: bool = False
    """Use the paper's objective, `instances`. Short runs need a low rate and a centred two-layer batch-norm head."""
    instances: InstanceNCE = InstanceNCE(0.07, negatives=16384)
    data: Data = field(default_factory=lambda: Data(path="uoft-cs/cifar10", columns={"image": "img"}))
    train: Train = Train(batch_size=512, epochs=200, lr=1e-3)
    optim: Optim = Optim(weight_decay=1e-4)
    head: Head = Head(dim=128, layers=1)
    label: str = "label"
    """Column of the labels for the probe."""
    bank: int = 50_000
    """Number of labelled training pictures that the probe uses."""

    space = None

    def modalities(self) -> dict[str, Modality]:
        """Encoders of one column, which is decoded and viewed once."""
        return {channels.lower(): replace(self.image, channels=channels) for channels in self.views}

    def terms(self) -> list[Pair]:
        """Views of one picture; copies of a picture are never negatives."""
        first, *others = nodes = list(self.modalities())
        objective = self.instances if self.nce else self.objective
        graph = core_view(first, of=others) if self.graph == "core" else full_graph(*nodes)
        return [replace(pair, objective=objective, crossed=self.crossed) for pair in graph]

    def probe(self, embed: held_out.Embed, *nodes: str) -> dict[str, float]:
        """Nearest neighbours and a linear probe on the held-out split, of each node's features and of all together."""
        rows = held_out.bank(self.data.open(), self.bank, self.label), self.data.open(self.data.test)
        return held_out.probes(embed, self.modalities(), nodes, *rows, self.label)

    def measure(self, model: multicl.Model) -> dict[str, float]:
        """Figures of each view alone, and of all together, as in the paper."""
        return self.probe(held_out.of_model(model), *self.modalities())

    def baseline(self) -> dict[str, float]:
        """Figures of raw pixels, all three channels."""
        nodes = list(self.modalities())
        found = self.probe(held_out.of_raw(self.modalities()), nodes[0])
        return {f"{name}_{'+'.join(nodes)}": value for name, value in found.items()}


if __name__ == "__main__":
    multicl.launch(Recipe)
