r"""Pairs of texts, with hard negatives from all rows (arXiv:2007.00808, ANCE): a query finds its document.

accelerate launch recipes/pairs.py --data.path pairs.parquet --data.columns query question document answer \
    --text.encoder distilroberta-base --train.lr 2e-5
python recipes/pairs.py --data.path wordnet/ --data.columns query term document definition \
    --data.split "train[:10000]" --train.steps 400 --mine.every 100 --mine.start 100

Measured with the second command on 5,000 held-out WordNet terms, a bag of hashed words as encoder, seed 0: recall@1 /
@10 from a term to its definitions 11.1 / 19.9 %. The same steps with --negatives batch 11.0 / 20.0, hardest 11.4 /
19.7, and with --hardest.k 8 10.4 / 18.1; untrained 7.6 / 13.6. One sigma is 0.4 / 0.6: this encoder gains nothing from
hard negatives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import multicl
from multicl import HardestNegatives, Head, InfoNCE, Matryoshka, Mine, Modality, Optim, Pair, Train
from multicl.evaluation import crossing, held_out
from multicl.modalities.text import Text
from multicl.types import Objective


@dataclass(frozen=True, kw_only=True)
class Recipe(multicl.Run):
    """Two columns of text through one encoder, from scratch with a small one by default; any encoder by name."""

    text: Text = Text("words")
    negatives: Literal["batch", "hardest", "mined"] = "mined"
    """Negatives of a query: the batch's other documents, the hardest of them, or the batch's and mined ones."""
    objective: InfoNCE = InfoNCE(0.05)
    hardest: HardestNegatives = HardestNegatives(0.05)
    """The objective with --negatives hardest, instead of `objective`."""
    matryoshka: tuple[int, ...] = ()
    """Widths to which vectors can be truncated and still compare well, such as 64 128 (arXiv:2205.13147); measured."""
    mine: Mine = Mine(every=200, start=200, relative_margin=0.05)
    train: Train = Train(batch_size=256, steps=1000, lr=1e-3)
    optim: Optim = Optim(weight_decay=0.0)
    head: Head = Head(dim=256, layers=1)

    def modalities(self) -> dict[str, Modality]:
        """Two nodes, one tower."""
        return {node: replace(self.text, tower="text") for node in ("query", "document")}

    def terms(self) -> list[Pair]:
        """Queries and documents find each other; repeated texts are not negatives."""
        objective: Objective = self.hardest if self.negatives == "hardest" else self.objective
        if self.matryoshka:
            objective = Matryoshka(objective, dims=self.matryoshka)
        return [Pair("query", "document", objective, mine=self.mine if self.negatives == "mined" else None)]

    def measure(self, model: multicl.Model) -> dict[str, float]:
        """Retrieval on the held-out split, both ways; any copy of the right text is right."""
        rows, embed = self.data.open(self.data.test), held_out.of_model(model)
        sides = self.modalities(), "query", "document", rows, ["query", "document"]
        figures = crossing.crossing(embed, *sides)
        for width in self.matryoshka:
            found = crossing.crossing(held_out.shortened(embed, width), *sides)
            figures |= {f"{name}_of_{width}": value for name, value in found.items() if "recall" in name}
        return figures


if __name__ == "__main__":
    multicl.launch(Recipe)
