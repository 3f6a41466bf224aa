r"""CMC (arXiv:1906.05849) on sounds: the waveform and the spectrogram of one clip are two views of it that must agree.

accelerate launch recipes/cmc_audio.py --data.path sounds/ --data.columns audio file
python recipes/cmc_audio.py --data.path spoken_digits/ --wave.rate 8000 --mel.rate 8000 --data.group speaker \
    --train.epochs 20 --wave.trim-db 20 --mel.trim-db 20 --wave.pooling segments --mel.pooling segments \
    --data.batches one --train.batch-size 75

Measured with the second command on 2,700 spoken digits, each of six speakers asked among the five others (5-NN; george,
nicolas, yweweler, lucas, theo, jackson; raw log-mels 55, 66, 77, 88, 90, 93 %), some 20 minutes of a core. Waves:
57, 63, 57, 67, 65, 61 %, untrained 18, 22, 26, 22, 20, 17 %. Log-mels: 64, 69, 64, 78, 74, 73 %, untrained 56, 69, 75,
87, 83, 87 %: the waveform's encoder learns from the spectrogram's, which but for george's voice loses.
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
