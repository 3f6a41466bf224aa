r"""SimCSE NLI (arXiv:2104.08821): supervised, an entailed sentence is the positive, a contradicted one a hard negative.

accelerate launch recipes/simcse_nli.py --data.path nli_for_simcse.csv \
    --data.columns anchor sent0 positive sent1 negative hard_neg --train.mixed-precision bf16
python recipes/simcse_nli.py --data.path triples.jsonl --text.encoder small --text.pooling mean --head.layers 0 \
    --train.batch-size 64 --train.lr 1e-3

The paper reports 81.57 on average over seven STS sets, with BERT-base and 275,601 triples from SNLI and MNLI. A row
without a hard negative (null) is a pair; a negative that repeats an anchor's or a positive's text is not one for it.
`--objective.own-negative` is the hard negative's weight alpha, which the authors found best at 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import multicl
from multicl import Head, InfoNCE, Matryoshka, Modality, Pair, Train
from multicl.modalities.text import Text
from multicl.recipes import simcse


@dataclass(frozen=True, kw_only=True)
class Recipe(simcse.Recipe):
    """Three columns of text through one encoder; negatives of an anchor are all other positives and all negatives."""

    text: Text = Text("bert-base-uncased", pooling="cls", max_tokens=32)
    objective: InfoNCE = InfoNCE(0.05, both_directions=False)
    matryoshka: tuple[int, ...] = ()
    """Widths to which vectors can be truncated and still compare well, such as 64 128 256 (arXiv:2205.13147)."""
    train: Train = Train(batch_size=512, epochs=3, lr=5e-5)
    head: Head = Head(dim=768, layers=1)

    space = "joint"  # with supervision the head is kept, as in the paper

    def modalities(self) -> dict[str, Modality]:
        """Three nodes, one tower."""
        return {node: replace(self.text, tower="text") for node in ("anchor", "positive", "negative")}

    def terms(self) -> list[Pair]:
        """InfoNCE, from anchors to positives, with the batch's hard negatives."""
        objective = Matryoshka(self.objective, dims=self.matryoshka) if self.matryoshka else self.objective
        return [Pair("anchor", "positive", objective, negatives="negative")]


if __name__ == "__main__":
    multicl.launch(Recipe)
