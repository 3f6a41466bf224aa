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
from multicl import Head, InfoNCE, Modality, Pair
from multicl.modalities.audio import Audio, Augment
from multicl.recipes._sounds import Sounds

VOICES = Augment(
    crop=(0.75, 1.0), shift=0.1, warp=(0.8, 1.25), noise=0.8, noise_snr_db=(5.0, 30.0), gain_db=(-6.0, 6.0),
    time_masks=1, time_mask_max=0.1, freq_masks=1, freq_mask_max=0.2,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recipe(Sounds):
    """SimCLR on sounds with labels for the probe."""

    audio: Audio = Audio("small", max_seconds=10, mels=40, trim_db=20.0, pooling="segments", strong=VOICES)
    objective: InfoNCE = InfoNCE(0.5)
    head: Head = Head(dim=128, layers=3)

    def modalities(self) -> dict[str, Modality]:
        """One node."""
        return {"audio": self.audio}

    def terms(self) -> list[Pair]:
        """NT-Xent between two strong views."""
        return [Pair("audio", "audio", self.objective)]


if __name__ == "__main__":
    multicl.launch(Recipe)
