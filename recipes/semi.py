r"""Semi-supervised, S4L (arXiv:1905.03670): contrastive on all pictures, and cross-entropy on the few with a label.

accelerate launch recipes/semi.py --data.path uoft-cs/cifar10 --data.columns image img --data.labels 0.01
python recipes/semi.py --data.labels 0.1 --image.encoder small --image.stem default --data.split 'train[:10000]' \
    --train.batch-size 256 --train.steps 120

Measured with the second command (10,000 pictures of CIFAR-10 as JPEG; linear probe on the labels of 1 % / 10 %): raw
pixels 24.5 / 34.5 %, untrained 24.6 / 35.3 %; `--method self-supervised` 33.7 / 39.7 %; joint 28.6 / 40.1 %; `--method
supervised --train.batch-size 64 --train.steps 300` 31.8 / 43.4 %. After three epochs the joint loss does not pay yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import multicl
from multicl import CrossEntropy, Head, InfoNCE, Modality, Optim, Pair, Target, Train
from multicl.data.few_labels import FewLabels
from multicl.evaluation import held_out
from multicl.modalities.image import Image
from multicl.predict import accuracy


@dataclass(frozen=True, kw_only=True)
class Recipe(multicl.Run):
    """One joint loss; `method` selects what it is compared with, on the same labels."""

    image: Image = Image("resnet18", stem="cifar", pretrained=False, size=32)
    method: Literal["joint", "self-supervised", "supervised"] = "joint"
    """"self-supervised": labels only serve a linear probe. "supervised": only cross-entropy on labelled pictures."""
    objective: InfoNCE = InfoNCE(0.5)
    ids: bool = False
    """Use labels as ids, too: pictures of one known label are positives of each other (SupCon on labelled ones)."""
    classifier: CrossEntropy = CrossEntropy()
    weight: float = 1.0
    """Weight of the cross-entropy; the contrastive loss has weight 1."""
    data: FewLabels = field(default_factory=lambda: FewLabels(path="uoft-cs/cifar10", columns={"image": "img"}))
    train: Train = Train(batch_size=512, epochs=200, lr=1e-3)
    optim: Optim = Optim(weight_decay=1e-4)
    head: Head = Head(dim=128, layers=2, norm="batch")

    space = None

    def modalities(self) -> dict[str, Modality]:
        """One node; purely supervised training sees strong views, too."""
        return {"image": self.image if self.method != "supervised" else replace(self.image, weak=self.image.strong)}

    def terms(self) -> list[Pair | Target]:
        """Two views of every picture agree; the first also predicts its class, if that is known."""
        terms: list[Pair | Target] = []
        if self.method != "supervised":
            terms.append(Pair("image", "image", self.objective, ids="known" if self.ids else None))
        if self.method != "self-supervised":
            terms.append(Target("image", "known", self.classifier, self.weight))
        return terms

    def rows(self) -> FewLabels:
        """All pictures; for purely supervised training, those with a label."""
        return replace(self.data, only=self.method == "supervised")

    def probe(self, embed: held_out.Embed) -> dict[str, float]:
        """Accuracy of a linear probe, trained on the labels that are known, on the held-out split."""
        train, test = self.data.open(), self.data.open(self.data.test)
        return held_out.linear(embed, self.modalities(), ["image"], train, test, self.data.label, known="known")

    def measure(self, model: multicl.Model) -> dict[str, float]:
        """Figures of the probe and of the classifier."""
        figures = self.probe(held_out.of_model(model))
        if self.method != "self-supervised":
            figures["classifier"] = accuracy(model, self.data.open(self.data.test), column=self.data.label)
        return figures

    def baseline(self) -> dict[str, float]:
        """Figures of the probe on raw pixels."""
        return self.probe(held_out.of_raw(self.modalities()))


if __name__ == "__main__":
    multicl.launch(Recipe)
