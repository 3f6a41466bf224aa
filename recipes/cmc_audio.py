r"""CMC (arXiv:1906.05849) on sounds: the waveform and the spectrogram of one clip are two views of it that must agree.

accelerate launch recipes/cmc_audio.py --data.path sounds/ --data.columns audio file
python recipes/cmc_audio.py --data.path spoken_digits/ --wave.rate 8000 --mel.rate 8000 --wave.depth 0 --mel.depth 0 \
    --data.group speaker --data.batches one --train.batch-size 75 --train.epochs 10
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import multicl
from multicl import Head, InfoNCE, Modality, Optim, Pair
from multicl.modalities.audio import Audio
from multicl.recipes import simclr_audio
from multicl.recipes._sounds import Sounds

SIDE = replace(simclr_audio.Recipe.audio, column="audio")


@dataclass(frozen=True, kw_only=True)
class Recipe(Sounds):
    """Two encoders hear what SimCLR's does: one the waveform, the other log-mels."""

    wave: Audio = replace(SIDE, input="wave")
    mel: Audio = SIDE
    objective: InfoNCE = InfoNCE(0.5)
    optim: Optim = field(default_factory=lambda: Optim(weight_decay=1e-4, tower_lr={"mel": 0.3}))
    """Log-mels are good before training, and are moved gently; filters of the waveform are to be learnt."""
    head: Head = Head(dim=128, layers=3, hidden=256)

    def modalities(self) -> dict[str, Modality]:
        """Two encoders of one column: decoded and viewed once."""
        return {"wave": self.wave, "mel": self.mel}

    def terms(self) -> list[Pair]:
        """The waveform of one view, the spectrogram of another; copies of a sound are never negatives."""
        return [Pair("wave", "mel", self.objective, crossed=True)]


if __name__ == "__main__":
    multicl.launch(Recipe)
