"""CLAP (arXiv:2211.06687): a sound finds its description among all descriptions of the batch, and vice versa.

accelerate launch recipes/clap.py --data.path sounds.parquet --data.columns audio file text caption
python recipes/clap.py --data.path prompts/ --audio.rate 8000
accelerate launch recipes/clap.py --from laion/clap-htsat-unfused --data.path sounds.parquet

Measured with the second command on 451 telephone prompts, 105 unseen ones held out, from scratch, 43 s on 2 CPU cores:
sound -> text recall@1 18 %, recall@10 52 %; text -> sound 17 and 52 %; untrained 0 to 1 and 8 to 10 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import multicl
from multicl import Head, InfoNCE, Modality, Optim, Pair, Train
from multicl.evaluation import crossing, held_out
from multicl.modalities.audio import Audio
from multicl.modalities.text import Text
from multicl.recipes._checkpoint import FromCheckpoint


@dataclass(frozen=True, kw_only=True)
class Recipe(FromCheckpoint):
    """Sounds and descriptions, from scratch with small encoders by default; any encoder by name."""

    audio: Audio = Audio("small", max_seconds=10)
    text: Text = Text("words")
    objective: InfoNCE = InfoNCE(0.07, learnable=True)
    train: Train = Train(batch_size=128, epochs=45, lr=1e-3)
    optim: Optim = Optim(weight_decay=0.2)
    head: Head = Head(dim=256, layers=1)
    classes: str | None = None
    """Column of classes for zero-shot classification: names, or numbers that the data have names for (ClassLabel)."""
    templates: tuple[str, ...] = ("a sound of {}", "{}")
    """Sentences about a class, with {} for its name, or a FILE.txt of them; the mean of their vectors is compared."""

    def modalities(self) -> dict[str, Modality]:
        """Two nodes."""
        return {"audio": self.audio, "text": self.text}

    def terms(self) -> list[Pair]:
        """Rows that share a description or a sound are not negatives."""
        return [Pair("audio", "text", self.objective)]

    def measure(self, model: multicl.Model) -> dict[str, float]:
        """Retrieval on the held-out split, both ways, without texts seen in training; any copy is right."""
        rows, seen = self.data.open(self.data.test), crossing.seen(self.data.open(), self.text.column or "text")
        embed, nodes = held_out.of_model(model), self.modalities()
        figures = crossing.crossing(embed, nodes, "audio", "text", rows, ids=["audio", "text"], drop=seen)
        if self.classes:
            figures |= crossing.classify(embed, nodes, "audio", "text", rows, self.classes, self.templates)
        return figures


if __name__ == "__main__":
    multicl.launch(Recipe)
