r"""CMC (arXiv:1906.05849) on sounds: the waveform and the spectrogram of one clip are two views of it that must agree.

accelerate launch recipes/cmc_audio.py --data.path sounds/ --data.columns audio file
python recipes/cmc_audio.py --data.path spoken_digits/ --wave.rate 8000 --mel.rate 8000 \
    --data.group speaker --train.epochs 20

Measured with the second command on 2,700 spoken digits, each of six speakers asked among the five others (5-NN; lucas,
george, nicolas, yweweler, jackson, theo; raw log-mels 46, 51, 64, 65, 84, 92 %), some 3 minutes on a CPU core. Waves:
27, 49, 46, 46, 52, 55 %, untrained 11, 16, 14, 12, 13, 22 %. Log-mels: 31, 52, 42, 49, 60, 60 %, untrained 47, 55, 60,
59, 73, 88 %: the waveform's encoder learns, the spectrogram's loses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import multicl
from multicl import InfoNCE, Modality, Pair
from multicl.modalities.audio import Audio, Augment
from multicl.recipes._sounds import Sounds

CHANGES = Augment(crop=(0.7, 1.0), gain_db=(-6.0, 6.0), noise=0.5, time_masks=2)
SIDE = Audio("small", column="audio", max_seconds=10, weak=CHANGES)


@dataclass(frozen=True, kw_only=True)
class Recipe(Sounds):
    """Two encoders hear one and the same view: one as it is, the other as log-mels."""

    wave: Audio = replace(SIDE, input="wave")
    mel: Audio = SIDE
    objective: InfoNCE = InfoNCE(0.1)

    def modalities(self) -> dict[str, Modality]:
        """Two encoders of one column: decoded and viewed once."""
        return {"wave": self.wave, "mel": self.mel}

    def terms(self) -> list[Pair]:
        """The two forms of each sound; copies of a sound are never negatives."""
        return [Pair("wave", "mel", self.objective)]


if __name__ == "__main__":
    multicl.launch(Recipe)
