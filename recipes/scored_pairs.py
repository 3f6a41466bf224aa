r"""Scored pairs of texts (arXiv:2309.12871, whose cosine objective is CoSENT, Su 2022): graded, or 0/1 with a margin.

accelerate launch recipes/scored_pairs.py --data.path mteb/stsbenchmark-sts --text.encoder bert-base-uncased
python recipes/scored_pairs.py --data.path same_or_not.csv --similar --data.columns score is_duplicate
python recipes/scored_pairs.py --data.path stsb/ --sts stsb/ --text.encoder words --text.pooling mean --train.lr 1e-3

Measured with the third command on STS-B test, 92 s on 2 CPU cores: Spearman 0.679; untrained 0.584, counts of words
0.503. A MiniLM trained on a billion pairs gains nothing from an epoch of it: 0.812 after, 0.820 before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import multicl
from multicl import CoSENT, Head, Margin, Modality, Optim, Pair, Train
from multicl.modalities.text import Text
from multicl.recipes import simcse


@dataclass(frozen=True, kw_only=True)
class Recipe(simcse.Recipe):
    """Columns sentence1 and sentence2, which share one encoder, and score."""

    text: Text = Text("bert-base-uncased", max_tokens=64)
    objective: CoSENT = CoSENT()  # type: ignore[assignment]
    similar: bool = False
    """Scores are 0 (different) or 1 (similar), not graded, and train with Hadsell's margin loss (2006)."""
    margin: Margin = Margin()
    train: Train = Train(batch_size=32, epochs=4, lr=2e-5)
    optim: Optim = Optim(weight_decay=0.01)
    head: Head = Head(layers=0)

    space: ClassVar[str | None] = "joint"

    def modalities(self) -> dict[str, Modality]:
        """Two nodes, one tower."""
        return {node: replace(self.text, tower="text") for node in ("sentence1", "sentence2")}

    def terms(self) -> list[Pair]:
        """Orders cosines like the scores or, with `similar`, pulls pairs together or apart."""
        return [Pair("sentence1", "sentence2", self.margin if self.similar else self.objective, target="score")]


if __name__ == "__main__":
    multicl.launch(Recipe)
