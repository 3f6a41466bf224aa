r"""CMC (arXiv:1906.05849) on sounds: the waveform and the spectrogram of one clip are two views of it that must agree.

accelerate launch recipes/cmc_audio.py --data.path sounds/ --data.columns audio file
python recipes/cmc_audio.py --data.path spoken_digits/ --wave.rate 8000 --mel.rate 8000 --group speaker \
    --train.epochs 20

Measured with the second command on 2,700 spoken digits, each of six speakers asked among the five others (5-NN; lucas,
george, nicolas, yweweler, jackson, theo; raw log-mels 46, 51, 64, 65, 84, 92 %), some 3 minutes on a CPU core. Waves:
27, 49, 46, 46, 52, 55 %, untrained 11, 16, 14, 12, 13, 22 %. Log-mels: 31, 52, 42, 49, 60, 60 %, untrained 47, 55, 60,
59, 73, 88 %: the waveform's encoder learns, the spectrogram's loses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import multicl
from multicl import Head, InfoNCE, Modality, Optim, Pair, Train
from multicl.evaluation import held_out
from multicl.modalities.audio import Audio, Augment

CHANGES = Augment(crop=(0.7, 1.0), gain_db=(-6.0, 6.0), noise=0.5, time_masks=2)
SIDE = Audio("small", column="audio", max_seconds=10, weak=CHANGES)


@dataclass(frozen=True, kw_only=True)
class Recipe(multicl.Run):
    """Two encoders hear one and the same view: one as it is, the other as log-mels."""

    wave: Audio = replace(SIDE, input="wave")
    mel: Audio = SIDE
    objective: InfoNCE = InfoNCE(0.1)
    train: Train = Train(batch_size=256, epochs=100, lr=1e-3)
    optim: Optim = Optim(weight_decay=1e-4)
    head: Head = Head(dim=128, layers=2)
    label: str = "label"
    """Column of the labels that the probe knows."""
    group: str | None = None
    """A column (the speaker, say): the probe then asks of each group's training sounds those of all other groups."""
    k: int = 5
    """Neighbours that the probe asks."""

    space = None

    def modalities(self) -> dict[str, Modality]:
        """Two encoders of one column: decoded and viewed once."""
        return {"wave": self.wave, "mel": self.mel}

    def terms(self) -> list[Pair]:
        """The two forms of each sound; copies of a sound are never negatives."""
        return [Pair("wave", "mel", self.objective)]

    def measure(self, model: multicl.Model) -> dict[str, float]:
        """k-nearest-neighbour accuracy of either side, on the held-out split or of each group among the others."""
        embed, rows, found = held_out.of_model(model), self.data.open(), dict[str, float]()
        for node in self.modalities():
            if self.group:
                figures = held_out.leave_one_out(embed, self.modalities(), node, rows, self.label, self.group, self.k)
            else:
                test = self.data.open(self.data.test)
                figures = held_out.knn(embed, self.modalities(), [node], rows, test, self.label, self.k)
            found |= {f"{name}_{node}": value for name, value in figures.items()}
        return found


if __name__ == "__main__":
    multicl.launch(Recipe)
