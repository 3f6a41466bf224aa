r"""SimCSE (arXiv:2104.08821): dropout is the augmentation.

accelerate launch recipes/simcse.py --data.path wiki1m_for_simcse.txt --train.epochs 1
python recipes/simcse.py --data.path wordnet/ --data.columns text definition --sts stsb/ \
    --text.encoder words --text.pooling mean --head.layers 0 --train.batch-size 256 --train.steps 1000 --train.lr 1e-3

Measured with the second command (WordNet's definitions, STS-B test, a bag of hashed words as encoder), 2 minutes on 2
CPU cores: Spearman 0.605; untrained 0.584, counts of words 0.503.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

import multicl
from multicl import Head, InfoNCE, InputError, Modality, Optim, Pair, Train
from multicl.evaluation import held_out
from multicl.modalities.text import Text
from multicl.rows import open_rows


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
    sets (STS12 to 16, STS-B, SICK-R), from the hub."""
    sts_split: str = "test"

    space: ClassVar[str | None] = None  # the head is for training only, as in the paper

    def modalities(self) -> dict[str, Modality]:
        """One node."""
        return {"text": self.text}

    def terms(self) -> list[Pair]:
        """NT-Xent between two dropout masks."""
        return [Pair("text", "text", self.objective)]

    def measure(self, model: multicl.Model) -> dict[str, float]:
        """Spearman correlation with human scores."""
        return self.correlation(held_out.of_model(model), model.nodes[0])

    def baseline(self) -> dict[str, float]:
        """Of bags of words."""
        return self.correlation(bag_of_words, "")

    def correlation(self, embed: held_out.Embed, node: str) -> dict[str, float]:
        """Of one set, or of each of several and on average."""
        names = held_out.SEVEN if self.sts == ("seven",) else self.sts
        sets = {Path(name).name: open_rows(name, split=self.sts_split) for name in names}
        if not sets or len(sets) < len(names):
            raise InputError(f"--sts: give one name or several that end unlike, got {' '.join(names) or 'none'}")
        return held_out.sts(embed, node, *sets.values()) if len(sets) == 1 else held_out.sts_sets(embed, node, sets)


def bag_of_words(node: str, cells: Sequence[Any], skipped: dict[int, str]) -> torch.Tensor:
    """Counts of words in hashed places, on a log scale: the baseline of raw inputs."""
    z = torch.zeros(len(cells), 1 << 13)
    for i, cell in enumerate(cells):
        for word, times in Counter(cell.lower().replace(".", " ").replace(",", " ").split()).items():
            z[i, int.from_bytes(word.encode(), "little") % 8191] += math.log1p(times)
    return z


if __name__ == "__main__":
    multicl.launch(Recipe)
