r"""ImageBind (arXiv:2305.05665): one core modality is paired with all others, which align without being paired.

accelerate launch recipes/bind.py --data.path clips.parquet --nodes image text audio --core image
python recipes/bind.py --core text --train.batch-size 128 --train.epochs 8 --train.lr 2e-3

Without --data.path it trains on the demo's spoken codes: three digits written, spoken and in words. Measured with the
second command, recall@1 among 200 unseen codes, in 137 s of a shared CPU core: image -> audio 83.5 %, audio -> image
81 %, never paired, and with `--direct image-audio`, which pairs them, 90 and 89 %; image -> text 91 %, audio -> text
94 %; untrained 0.5 to 1.5 %.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import multicl
from multicl import Head, InfoNCE, Modality, Optim, Pair, Train
from multicl.data.rows import open_rows
from multicl.evaluation import crossing, held_out
from multicl.modalities.audio import Audio
from multicl.modalities.image import Image
from multicl.modalities.text import Text
from multicl.recipes import _spoken_codes as codes
from multicl.recipes.codes import MASKED, NOISY, QUIET, SLANT

Node = Literal["image", "text", "audio"]


@dataclass(frozen=True, kw_only=True)
class Recipe(multicl.Run):
    """Small encoders by default, sized for the codes; any encoder by name. Rows may lack any modality."""

    image: Image = Image("small", size=(16, 48), strong=NOISY, weak=SLANT)
    text: Text = Text("words", width=128)
    audio: Audio = Audio("small", rate=codes.RATE, mels=40, hop_ms=15, strong=MASKED, weak=QUIET)
    nodes: tuple[Node, ...] = ("image", "text", "audio")
    """The nodes to train, including the core."""
    core: Node = "image"
    """The node that is paired with every other one."""
    direct: tuple[str, ...] = ()
    """More pairs, such as image-audio; image-image pairs two strong views of each picture."""
    objective: InfoNCE = InfoNCE(0.1)
    train: Train = Train(batch_size=256, epochs=32, lr=1e-3)
    optim: Optim = field(default_factory=lambda: Optim(weight_decay=0.05))
    head: Head = Head(dim=128, layers=2)
    ids: str | None = None
    """Column of ids: rows with equal values are about the same thing. None: rows that share a text or a file are."""
    renditions: int = 4
    """Times that each of the demo's codes is written and spoken."""

    def modalities(self) -> dict[str, Modality]:
        """The chosen nodes."""
        return {node: getattr(self, node) for node in self.nodes}

    def terms(self) -> list[Pair]:
        """The core with every other node, and the direct pairs."""
        pairs: list[tuple[str, str]] = [(self.core, node) for node in self.nodes if node != self.core]
        pairs += [crossing.named(pair, self.modalities(), same=True) for pair in self.direct]
        return [Pair(a, b, self.objective, ids=self.ids or (None if self.data.path else "code")) for a, b in pairs]

    def rows(self) -> Any:
        """The data, or the demo's codes with all three in each row."""
        return self.data if self.data.path else codes.TrainingRows(self.renditions, together=True)

    def measure(self, model: multicl.Model) -> dict[str, float]:
        """Retrieval between every two nodes; figures of nodes that the graph does not pair are called emergent."""
        rows = self.data.open(self.data.test) if self.data.path else open_rows(codes.held_out_rows())
        terms, embed = self.terms(), held_out.of_model(model)
        trained = [(term.a, term.b) for term in terms]
        return crossing.every(embed, self.modalities(), rows, trained, ids=terms[0].ids)


if __name__ == "__main__":
    multicl.launch(Recipe)
