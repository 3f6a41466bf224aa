r"""SimCSE (arXiv:2104.08821): dropout is the augmentation.

accelerate launch recipes/simcse.py --data.path wiki1m_for_simcse.txt --train.epochs 1
python recipes/simcse.py --data.path wordnet/ --data.columns text definition --sts stsb/ \
    --text.encoder words --text.pooling mean --head.layers 0 --train.batch-size 256 --train.steps 1000 --train.lr 1e-3

Measured with the second command (WordNet's definitions, STS-B test, a bag of hashed words as encoder), 2 minutes on 2
CPU cores: Spearman 0.605; untrained 0.584, counts of words 0.503.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import multicl
from multicl import Head, InfoNCE, Modality, Optim, Pair, Train
from multicl.evaluation import held_out
from multicl.modalities.text import Text
from multicl.recipes import _sentences as sentences


@dataclass(frozen=True, kw_only=True)
class Recipe(multicl.Run):
    """Each sentence twice through the encoder, with two dropout masks; every other sentence is a negative."""

    text: Text = Text("bert-base-uncased", pooling="cls", max_tokens=32)
    objective: InfoNCE = InfoNCE(0.05)
    train: Train = Train(batch_size=64, epochs=1, lr=3e-5)
    optim: Optim = Optim(weight_decay=0.0)
    head: Head = Head(dim=768, layers=1)
    sts: tuple[str, ...] = ("mteb/stsbenchmark-sts",)
    """Scored pairs for the figures: hub names or paths with columns sentence1, sentence2, score; "seven": the paper's
    sets (STS12 to 16, STS-B, SICK-R), from the hub; "none": leave these figures out, as without a network."""
    sts_split: str = "test"
    """The split of the scored pairs to measure on."""
    sts_dev: str | None = None
    """Another split of the scored pairs, such as validation, for the figure `dev_spearman`, which --train.best may
    name."""
    probes: tuple[str, ...] = ()
    """Labelled texts (columns text and label; splits train and test) for linear probes: the paper's transfer tasks."""

    space: ClassVar[str | None] = None  # the head is for training only, as in the paper

    def modalities(self) -> dict[str, Modality]:
        """One node."""
        return {"text": self.text}

    def terms(self) -> list[Pair]:
        """NT-Xent between two dropout masks."""
        return [Pair("text", "text", self.objective)]

    def measure(self, model: multicl.Model) -> dict[str, float]:
        """Spearman correlation with human scores, and whatever else is asked for."""
        node, embed = model.nodes[0], held_out.of_model(model)
        figures = sentences.correlation(embed, node, self.sts, self.sts_split)
        if self.sts_dev is not None:
            figures |= sentences.dev_correlation(embed, node, self.sts, self.sts_dev)
        return figures | sentences.probes(embed, node, self.text, self.probes)

    def baseline(self) -> dict[str, float]:
        """Figures of bags of words."""
        return sentences.correlation(sentences.bag_of_words, "", self.sts, self.sts_split)


if __name__ == "__main__":
    multicl.launch(Recipe)
