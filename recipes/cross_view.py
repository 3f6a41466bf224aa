r"""Cross-view CMC (arXiv:1906.05849): two columns of pictures show the same things, and either finds the other.

accelerate launch recipes/cross_view.py --data.path pairs.parquet --data.columns a photo b sketch --two-towers
python recipes/cross_view.py --data.path emoji/ --data.columns a google b twitter --train.batch-size 254 \
    --train.mixed-precision bf16

Measured with the second command on 1,525 emoji, 381 concepts held out, 12 minutes on one busy CPU core that computes in
bf16, seed 0: recall@1 75.1 % from a to b, 75.6 % from b to a, recall@10 94.0 % both ways; untrained 32.8 and 34.6 %,
raw pixels (of 32 x 32) 39.4 and 48.3 % recall@1. Milder views for 120 epochs: 73.0 and 74.5 % in 5.5 minutes. With
`--image.fields 4` (and without bf16) 60 epochs give 70.9 and 74.3 %, untrained 43.0 and 47.8 %. All these count the
five pictures of b that are another's too as wrong, as measuring did then. With `--image.fields 4 --image.size 48` 110
epochs give 77.4 and 77.2 % in 40 minutes of one core, and the same model with `--image.crop-pct 0.9`, whose whole
pictures look as large as training's crops, 79.0 and 77.7 %; raw pixels, cut the same, 41.5 and 45.9 %.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import multicl
from multicl import Head, InfoNCE, Modality, Optim, Pair, Train
from multicl.evaluation import held_out
from multicl.evaluation.crossing import crossing
from multicl.modalities.image import Augment, Image

VIEW = Augment(crop=(0.6, 1.0), rotate=0.5, jitter=0.8, hue=0.08, gray=0.1, cutout=0.3, cutout_area=(0.02, 0.15))


@dataclass(frozen=True, kw_only=True)
class Recipe(multicl.Run):
    """Two columns of pictures, from scratch with a small encoder by default; any encoder by name."""

    image: Image = Image("small", size=32, weak=VIEW)
    """Either column's; its weak views are what trains, as nothing but the other picture says what must be kept."""
    two_towers: bool = False
    """A tower of its own for each column, where pictures are unlike (infrared, depth); else one sees both."""
    objective: InfoNCE = InfoNCE(0.07, learnable=True)
    train: Train = Train(batch_size=256, epochs=185, lr=2e-3)
    optim: Optim = Optim(weight_decay=0.1)
    head: Head = Head(dim=256, layers=1, centred=True)

    def modalities(self) -> dict[str, Modality]:
        """Two nodes."""
        return {node: replace(self.image, tower=node if self.two_towers else "image") for node in ("a", "b")}

    def terms(self) -> list[Pair]:
        """One view of each; a picture of another row is a negative."""
        return [Pair("a", "b", self.objective)]

    def probe(self, embed: held_out.Embed) -> dict[str, float]:
        """Retrieval on the held-out split, both ways; a picture that repeats is right wherever it stands."""
        return crossing(embed, self.modalities(), "a", "b", self.data.open(self.data.test), ids=["a", "b"])

    def measure(self, model: multicl.Model) -> dict[str, float]:
        """Of the model."""
        return self.probe(held_out.of_model(model))

    def baseline(self) -> dict[str, float]:
        """Of raw pixels."""
        return self.probe(held_out.of_raw(self.modalities()))


if __name__ == "__main__":
    multicl.launch(Recipe)
