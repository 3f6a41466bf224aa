r"""Cross-view CMC (arXiv:1906.05849): two columns of pictures show the same things, and either finds the other.

accelerate launch recipes/cross_view.py --data.path pairs.parquet --data.columns a photo b sketch --two-towers
python recipes/cross_view.py --data.path emoji/ --data.columns a google b twitter

Measured with the second command on 1,525 emoji, 381 concepts held out, 4.5 minutes on one CPU core, seed 0:
recall@1 72.2 % from a to b, 71.4 % from b to a; untrained 32.5 %, raw pixels (of 32 x 32) 39.4 and 48.3 %.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import multicl
from multicl import Head, InfoNCE, Modality, Optim, Pair, Train
from multicl.evaluation import held_out
from multicl.evaluation.crossing import crossing
from multicl.modalities.image import Augment, Image

VIEW = Augment(crop=(0.85, 1.0), jitter=0.5, hue=0.05)


@dataclass(frozen=True, kw_only=True)
class Recipe(multicl.Run):
    """Two columns of pictures, from scratch with a small encoder by default; any encoder by name."""

    image: Image = Image("small", size=32, weak=VIEW)
    """Either column's; its weak views are what trains, as nothing but the other picture says what must be kept."""
    two_towers: bool = False
    """A tower of its own for each column, where pictures are unlike (infrared, depth); else one sees both."""
    objective: InfoNCE = InfoNCE(0.07, learnable=True)
    train: Train = Train(batch_size=128, epochs=60, lr=1e-3)
    optim: Optim = Optim(weight_decay=0.01)
    head: Head = Head(dim=256, layers=2, norm="batch")

    def modalities(self) -> dict[str, Modality]:
        """Two nodes."""
        return {node: replace(self.image, tower=node if self.two_towers else "image") for node in ("a", "b")}

    def terms(self) -> list[Pair]:
        """One view of each; a picture of another row is a negative."""
        return [Pair("a", "b", self.objective)]

    def probe(self, embed: held_out.Embed) -> dict[str, float]:
        """Retrieval on the held-out split, both ways."""
        return crossing(embed, self.modalities(), "a", "b", self.data.open(self.data.test))

    def measure(self, model: multicl.Model) -> dict[str, float]:
        """Of the model."""
        return self.probe(held_out.of_model(model))

    def baseline(self) -> dict[str, float]:
        """Of raw pixels."""
        return self.probe(held_out.of_raw(self.modalities()))


if __name__ == "__main__":
    multicl.launch(Recipe)
