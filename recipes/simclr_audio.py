"""SimCLR (arXiv:2002.05709) on sounds: two augmented crops of each recording agree, all other recordings are negatives.

accelerate launch recipes/simclr_audio.py --data.path sounds/ --data.columns audio file
python recipes/simclr_audio.py --data.path spoken_digits/ --audio.rate 8000 --group speaker --train.epochs 20

Measured with the second command on 2,700 spoken digits, each of six speakers asked among the five others (5-NN, %),
70 s of training on a CPU core; "bands, speed" is `--audio.center band --audio.strong.speed 0.85 1.2
--objective.temperature 0.1`. Raw log-mels are not beaten for every speaker yet: a recording is told from others by its
speaker and microphone, too. Much noise and a temperature of 0.5 make it worse (30 to 65).

                  lucas  george  nicolas  yweweler  jackson  theo
    raw log-mels     46      51       64        65       84    92
    untrained        46      47       69        60       75    91
    trained          53      51       70        56       82    83
    bands, speed     33      63       68        57       61    76
    more steps       39      48       62        48       60    75  (--train.batch-size 128, T 0.1, speed 0.8 to 1.25,
                                                                   crops of 0.9 to 1, 2 time masks of a tenth at most)
"""

from __future__ import annotations

from dataclasses import dataclass

import multicl
from multicl import Head, InfoNCE, Modality, Optim, Pair, Train
from multicl.evaluation import held_out
from multicl.modalities.audio import Audio
from multicl.modalities.audio.stretched import log_mels


@dataclass(frozen=True, kw_only=True)
class Recipe(multicl.Run):
    """SimCLR on sounds with labels for the probe."""

    audio: Audio = Audio("small", max_seconds=10)
    objective: InfoNCE = InfoNCE(0.2)
    train: Train = Train(batch_size=256, epochs=100, lr=1e-3)
    optim: Optim = Optim(weight_decay=1e-4)
    head: Head = Head(dim=128, layers=2)
    label: str = "label"
    """Column of the labels that the probe knows."""
    group: str | None = None
    """A column (the speaker, say): the probe then asks of each group's training sounds those of all other groups."""
    k: int = 5
    """Neighbours that the probe asks."""

    space = None  # the probe looks at the encoder's features

    def modalities(self) -> dict[str, Modality]:
        """One node."""
        return {"audio": self.audio}

    def terms(self) -> list[Pair]:
        """NT-Xent between two strong views."""
        return [Pair("audio", "audio", self.objective)]

    def probe(self, embed: held_out.Embed) -> dict[str, float]:
        """k-nearest-neighbour accuracy on the held-out split, or of each group among the others."""
        rows = self.data.open()
        if self.group:
            return held_out.leave_one_out(embed, self.modalities(), "audio", rows, self.label, self.group, self.k)
        test = self.data.open(self.data.test)
        return held_out.knn(embed, self.modalities(), ["audio"], rows, test, self.label, self.k)

    def measure(self, model: multicl.Model) -> dict[str, float]:
        """Of the model."""
        return self.probe(held_out.of_model(model))

    def baseline(self) -> dict[str, float]:
        """Of log-mel spectrograms, stretched to one length."""
        return self.probe(lambda _, cells, skipped: log_mels(self.audio, cells, skipped))


if __name__ == "__main__":
    multicl.launch(Recipe)
