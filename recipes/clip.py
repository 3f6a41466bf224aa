"""CLIP (arXiv:2103.00020): a picture finds its caption among all captions of the batch, and a caption its picture.

accelerate launch recipes/clip.py --data.path pairs.parquet --data.columns image img text caption
python recipes/clip.py --data.path emoji/ --data.columns image google --train.epochs 60
accelerate launch recipes/clip.py --from openai/clip-vit-base-patch32 --data.path pairs.parquet

Measured with the second command on 1,525 emoji, 381 concepts held out, from scratch on 2 CPU cores: recall@1 20 % both
ways, recall@10 37 %; untrained 0.5 and 2.6 %, chance 0.3 and 2.6 %.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import tyro

import multicl
from multicl import Head, InfoNCE, Modality, Optim, Pair, Train
from multicl.evaluation import crossing, held_out
from multicl.modalities.image import Image
from multicl.modalities.text import Text
from multicl.recipes import _checkpoint


@dataclass(frozen=True, kw_only=True)
class Recipe(multicl.Run):
    """Pictures and captions, from scratch with small encoders by default; any encoder by name."""

    checkpoint: Annotated[str | None, tyro.conf.arg(aliases=["--from"])] = None
    """A CLIP or SigLIP model of transformers, by name or folder, to begin from: its preprocessing, projections and
    temperature; by default then with a learning rate of 1e-5 and hardly cropped views."""
    image: Image = Image("small", size=64)
    text: Text = Text("words")
    objective: InfoNCE = InfoNCE(0.07, learnable=True)
    images: float = 0.0
    """Weight of a pair image-image mixed in, two strong views of each picture (SLIP, arXiv:2112.12750); 0: none."""
    within: InfoNCE = InfoNCE(0.1)
    """The objective of that pair, which has a space of its own."""
    train: Train = Train(batch_size=256, epochs=32, lr=1e-3)
    optim: Optim = Optim(weight_decay=0.2)
    head: Head = Head(dim=256, layers=1)
    unseen: tuple[str, ...] = ()
    """More columns of pictures in the held-out rows (another vendor's), measured like `image`."""
    classes: str | None = None
    """Column of the held-out rows with names of classes: zero-shot classification is measured, too."""
    templates: tuple[str, ...] = crossing.TEMPLATES
    """What a class is called; their mean is compared."""

    def __post_init__(self) -> None:
        if self.checkpoint and self.image.encoder == Recipe.image.encoder:  # else a recorded run, which has it all
            for name, value in _checkpoint.settings(self, type(self)).items():
                object.__setattr__(self, name, value)

    def trainer(self) -> multicl.Trainer:
        """As every recipe's, with the checkpoint's projections and temperature."""
        trainer = super().trainer()
        if self.checkpoint:
            _checkpoint.put(self.checkpoint, trainer.towers)
        return trainer

    def modalities(self) -> dict[str, Modality]:
        """Two nodes."""
        return {"image": self.image, "text": self.text}

    def terms(self) -> list[Pair]:
        """Weak views of pictures, so that captions stay true; rows of one caption are no negatives."""
        terms = [Pair("image", "text", self.objective)]
        if self.images:
            terms.append(Pair("image", "image", self.within, weight=self.images, space="within"))
        return terms

    def measure(self, model: multicl.Model) -> dict[str, float]:
        """Retrieval on the held-out split, both ways; repeated captions, and all of several, are right."""
        rows, nodes, embed = self.data.open(self.data.test), self.modalities(), held_out.of_model(model)
        figures = crossing.crossing(embed, nodes, "image", "text", rows, ids="text")
        for column in self.unseen:
            other = {column: replace(self.image, column=column), "text": self.text}
            figures |= crossing.crossing(
                held_out.renamed(embed, {column: "image"}), other, column, "text", rows, "text"
            )
        if self.classes:
            figures |= crossing.classify(embed, nodes, "image", "text", rows, self.classes, self.templates)
        return figures


if __name__ == "__main__":
    multicl.launch(Recipe)
