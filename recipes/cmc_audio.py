r"""CMC (arXiv:1906.05849) on sounds: the waveform and the spectrogram of one clip are two views of it that must agree.

accelerate launch recipes/cmc_audio.py --data.path sounds/ --data.columns audio file
python recipes/cmc_audio.py --data.path spoken_digits/ --wave.rate 8000 --mel.rate 8000 --wave.depth 0 --mel.depth 0 \
    --data.group speaker --data.batches one --train.batch-size 75 --train.epochs 10

Measured with the second command, seed 0, 21 minutes of a shared CPU core: each of six speakers classified by the five
others (%); training heard all six, without labels. "Raw" are log-mels of what the encoders hear. Training improves the
encoder of log-mels, except for nicolas by 5-NN and theo by the linear probe. The waveform's encoder learns from it, but
does not beat raw log-mels, except for george and, by the linear probe, nicolas.

                          5-NN                                     linear probe
             raw   waves, before  log-mels, before      raw   waves, before  log-mels, before
george        55     61     21       78       65         51     64     42       84       77
nicolas       68     62     20       71       73         67     71     41       76       74
yweweler      73     64     17       74       67         86     67     37       88       82
theo          90     68     20       94       92         90     76     40       88       88
jackson       91     59     18       90       82         89     65     45       92       90
lucas         81     81     19       89       82         84     84     41       91       88
mean          76     66     19       83       77         78     71     41       87       83
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
    """Log-mels are good before training, so that tower changes slowly; filters of the waveform must be learnt first."""
    head: Head = Head(dim=128, layers=3, hidden=256)

    def modalities(self) -> dict[str, Modality]:
        """Two encoders of one column, which is decoded and viewed once."""
        return {"wave": self.wave, "mel": self.mel}

    def terms(self) -> list[Pair]:
        """The waveform of one view, the spectrogram of another; copies of a sound are never negatives."""
        return [Pair("wave", "mel", self.objective, crossed=True)]


if __name__ == "__main__":
    multicl.launch(Recipe)
