"""CLIP (arXiv:2103.00020): a picture finds its caption among all captions of the batch, and a caption its picture.

accelerate launch recipes/clip.py --data.path pairs.parquet --data.columns image img text caption
python recipes/clip.py --data.path emoji/ --data.columns image google --train.epochs 60

Measured with the second command on 1,525 emoji, 381 concepts held out, from scratch on 2 CPU cores: recall@1 20 % both
ways, recall@10 37 %; untrained 0.5 and 2.6 %, chance 0.3 and 2.6 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import multicl
from multicl import Head, InfoNCE, Modality, Optim, Pair, Train
from multicl.evaluation import held_out
from multicl.modalities.image import Image
from multicl.modalities.text import Text


@dataclass(frozen=True, kw_only=True)
class Recipe(multicl.Run):
    """Pictures and captions, from scratch with small encoders by default; any encoder by name."""

    image: Image = Image("small", size=64)
    text: Text = Text("words")
    objective: InfoNCE = InfoNCE(0.07, learnable=True)
    train: Train = Train(batch_size=256, epochs=32, lr=1e-3)
    optim: Optim = Optim(weight_decay=0.2)
    head: Head = Head(dim=256, layers=1)

    def modalities(self) -> dict[str, Modality]:
        """Two nodes."""
        return {"image": self.image, "text": self.text}

    def terms(self) -> list[Pair]:
        """Weak views of pictures, so that captions stay true; rows of one caption are no negatives."""
        return [Pair("image", "text", self.objective)]

    def measure(self, model: multicl.Model) -> dict[str, float]:
        """Retrieval on the held-out split, both ways; repeated captions are all right."""
        rows = self.data.open(self.data.test)
        return held_out.crossing(held_out.of_model(model), self.modalities(), "image", "text", rows, ids="text")


if __name__ == "__main__":
    multicl.launch(Recipe)
