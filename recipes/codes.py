"""Spoken codes: speech, handwriting and words in one space, though no scan is ever paired with a recording.

    multicl demo                       # or: python recipes/codes.py; 2 to 6 minutes on 2 cores
    multicl demo --say my.wav          # three digits of your own, spoken (or --draw my.png, written)

A code is three digits: three handwritten scans side by side, three recordings of one speaker joined, three words.
Trained on 800 of the 1,000 codes; searched among the other 200, made of scans and recordings never trained on.
Measured, recall@1 over 200 codes (chance 0.5 %): speech -> image 94 %, image -> speech 92.5 %; a speaker who was left
out altogether 84.5 and 87 %; untrained 0.5 %.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import multicl
from multicl import Head, InfoNCE, Modality, Optim, Pair, Train
from multicl.evaluation import retrieval
from multicl.modalities.audio import Audio
from multicl.modalities.audio import Augment as AudioAugment
from multicl.modalities.image import Augment as ImageAugment
from multicl.modalities.image import Image
from multicl.modalities.text import Text
from multicl.recipes import _spoken_codes as codes

SLANT = ImageAugment(crop=(0.85, 1.0), rotate=0.4, rotate_degrees=8)
NOISY = ImageAugment(crop=(0.8, 1.0), rotate=0.5, rotate_degrees=8, noise=0.5)
QUIET = AudioAugment(gain_db=(-6, 6), noise=0.3, freq_masks=1, freq_mask_max=0.2)
MASKED = AudioAugment(
    gain_db=(-6, 6), noise=0.5, noise_snr_db=(5, 40), time_masks=2, time_mask_max=0.08, freq_masks=2, freq_mask_max=0.2
)


@dataclass(frozen=True, kw_only=True)
class Recipe(multicl.Run):
    """One run trains image-image, audio-audio, image-text and audio-text."""

    image: Image = Image("small", size=(16, 48), strong=NOISY, weak=SLANT)
    audio: Audio = Audio("small", rate=codes.RATE, mels=40, hop_ms=15, strong=MASKED, weak=QUIET)
    text: Text = Text("words", width=128)
    objective: InfoNCE = InfoNCE(0.1)
    train: Train = Train(batch_size=128, epochs=4.2, lr=2e-3, checkpoint_every=200)
    optim: Optim = field(default_factory=lambda: Optim(weight_decay=0.05))
    head: Head = Head(dim=128, layers=2)
    renditions: int = 8
    """Times that each code is written, and spoken, for training."""
    say: Path | None = None
    """Search with a recording of three spoken digits; uses the last trained demo, or the one of --run."""
    draw: Path | None = None
    """Search with a picture of three written digits."""

    def modalities(self) -> dict[str, Modality]:
        """Three nodes."""
        return {"image": self.image, "audio": self.audio, "text": self.text}

    def terms(self) -> list[Pair]:
        """Words connect images and sounds; rows of one code are positives, never negatives."""
        sides = (("image", "image"), ("audio", "audio"), ("image", "text"), ("audio", "text"))
        return [Pair(a, b, self.objective, ids="code") for a, b in sides]

    def rows(self) -> codes.TrainingRows:
        """Scans with words and recordings with words; never both."""
        return codes.TrainingRows(self.renditions)

    def measure(self, model: multicl.Model) -> dict[str, float]:
        """Recall@1 among the 200 codes that were never trained on."""
        seen, unseen = codes.held_out(codes.training_speakers()), codes.held_out([codes.UNSEEN_SPEAKER])
        speech, scans, words = (model.embed_node(node, seen[node]) for node in ("audio", "image", "text"))
        other = model.embed(audio=unseen["audio"])
        directions = {
            "speech_to_image": (speech, scans), "image_to_speech": (scans, speech),
            "text_to_image": (words, scans), "text_to_speech": (words, speech),
            "unseen_speaker_to_image": (other, scans), "image_to_unseen_speaker": (scans, other),
            "text_to_unseen_speaker": (words, other),
        }  # fmt: skip
        code = seen["code"]
        return {name: retrieval(a, b, code, code, ks=(1,))["recall@1"] for name, (a, b) in directions.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """`multicl demo`."""
    from multicl.recipes import _codes_page as page

    args = list(sys.argv[1:] if argv is None else argv)
    if any(a.startswith(("--say", "--draw")) for a in args) and page.search_with_own(Recipe, args):
        return
    if not {"-h", "--help"} & set(args):
        print(page.COMPOSITION)
    multicl.launch(Recipe, args, finish=page.finish, program="multicl demo")


if __name__ == "__main__":
    main()
