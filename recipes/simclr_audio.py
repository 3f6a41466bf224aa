r"""SimCLR (arXiv:2002.05709) on sounds: two augmented crops of each recording agree, all others are negatives.

accelerate launch recipes/simclr_audio.py --data.path sounds/ --data.columns audio file
python recipes/simclr_audio.py --data.path spoken_digits/ --audio.rate 8000 --data.group speaker --data.left-out theo \
    --audio.depth 0 --data.batches one --train.batch-size 75 --train.epochs 10 --train.lr 3e-4

Measured with the second command, means of seeds 0 to 2: each of six speakers is left out of training in turn and
classified by the five others (%; benchmarks/speakers.py runs all), half a minute each on a CPU core. "Plain" are
log-mels of whole clips in 64 bands, "trimmed" log-mels of what this recipe hears. On average, trained encoders beat
trimmed log-mels for every speaker by both measures. They beat plain ones by 5-NN with each seed, and by the linear
probe except for yweweler and theo, for whom training does not make up for the trimming.

                          5-NN                                     linear probe
          plain  trimmed  untrained  trained    plain  trimmed  untrained  trained
george       51       55         73       74       34       51         79       83
nicolas      64       68         73       72       57       67         75       77
yweweler     65       73         72       74       89       86         87       88
theo         92       90         92       93       93       90         88       90
jackson      84       91         83       92       90       89         90       92
lucas        46       81         84       88       46       84         89       91
mean         67       76         79       82       68       78         85       87

Most of the gain comes before training: from trimming, parts equal in change, a root instead of the logarithm, and no
residual convolutions (`--audio.depth 0`; more data will want the default, 3). These settings were tuned on the same six
speakers, untrained; of training, the rate, the random filter (`color_db`) and `warp` were.
"""

from __future__ import annotations

from dataclasses import dataclass

import multicl
from multicl import Head, InfoNCE, Modality, Pair
from multicl.modalities.audio import Audio, Augment
from multicl.recipes._sounds import Sounds

VOICES = Augment(
    crop=(0.9, 1.0), shift=0.05, warp=(0.9, 1.1), color_db=10.0, noise=0.8, noise_snr_db=(5.0, 30.0),
    gain_db=(-6.0, 6.0), time_masks=1, time_mask_max=0.1, freq_masks=1, freq_mask_max=0.2,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Recipe(Sounds):
    """SimCLR on sounds with labels for the probe."""

    audio: Audio = Audio(
        "small", max_seconds=10, mels=40, trim_db=25.0, root=0.1, pooling="segments", parts="change", stride=2,
        strong=VOICES,
    )  # fmt: skip
    objective: InfoNCE = InfoNCE(0.5)
    head: Head = Head(dim=128, layers=3, hidden=256)

    def modalities(self) -> dict[str, Modality]:
        """One node."""
        return {"audio": self.audio}

    def terms(self) -> list[Pair]:
        """NT-Xent between two strong views."""
        return [Pair("audio", "audio", self.objective)]


if __name__ == "__main__":
    multicl.launch(Recipe)
