"""CLIP (arXiv:2103.00020): a picture finds its caption among all captions of the batch, and a caption its picture.

accelerate launch recipes/clip.py --data.path pairs.parquet --data.columns image img text caption
python recipes/clip.py --data.path emoji/ --data.columns image google --train.epochs 60
accelerate launch recipes/clip.py --from openai/clip-vit-base-patch32 --data.path pairs.parquet

Measured with the second command on 1,525 emoji, 381 concepts held out, from scratch in 11 minutes of one CPU core:
image -> text recall@1/5/10 20 / 31 / 37 %, for an unseen vendor's pictures (`--beside.unseen twitter`) 4 / 13 / 18 %;
untrained 0.5 / 1.3 / 2.6 and 0.3 / 1.6 / 2.1 %. With `--images 0.5`, pairs of pictures mixed in, 19 / 32 / 38 % and for
the unseen vendor 7 / 16 / 20 %. Zero-shot of the nine classes of `--beside.classes category`: 18 %, untrained 12 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import multicl
from multicl import Head, InfoNCE, Modality, Optim, Pair, Train
from multicl.evaluation import crossing, held_out
from multicl.modalities.image import Image
from multicl.modalities.text import Text
from multicl.recipes._beside import Beside
from multicl.recipes._checkpoint import FromCheckpoint


@dataclass(frozen=True, kw_only=True)
class Recipe(FromCheckpoint):
    """Pictures and captions, from scratch with small encoders by default; any encoder by name."""

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
    beside: Beside = Beside()

    def modalities(self) -> dict[str, Modality]:
        """Two nodes."""
        return {"image": self.image, "text": self.text}

    def terms(self) -> list[Pair]:
        """Weak views of pictures, so that captions stay true; rows that share a caption are not negatives."""
        terms = [Pair("image", "text", self.objective)]
        if self.images:
            terms.append(Pair("image", "image", self.within, weight=self.images, space="within"))
        return terms

    def measure(self, model: multicl.Model) -> dict[str, float]:
        """Retrieval on the held-out split, both ways; any caption of a picture, and any copy of either, is right."""
        rows, nodes, embed = self.data.open(self.data.test), self.modalities(), held_out.of_model(model)
        figures = crossing.crossing(embed, nodes, "image", "text", rows, ids=["image", "text"])
        return figures | self.beside.measure(embed, nodes, rows)


if __name__ == "__main__":
    multicl.launch(Recipe)
