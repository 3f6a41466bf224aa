"""Spoken codes: three digits as three handwritten scans side by side, as one speaker's three recordings, as words.

Scans: 1,797 of scikit-learn's digits (UCI, CC BY 4.0). Recordings: 3,000 of the Free Spoken Digit Dataset
(CC BY-SA 4.0), six speakers. A row of training holds scans and words, or a recording and words: never both.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from typing import Any

import numpy as np
import soundfile
from PIL import Image as Picture

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RATE = 8000
HELD_OUT = 200
UNSEEN_SPEAKER = "theo"
CREDITS = (
    "Recordings: Free Spoken Digit Dataset by Zohar Jackson, César Souza, Jason Flaks, Yuxin Pan, Hereman Nicolas and "
    "Adhish Thite, CC BY-SA 4.0; trimmed, re-encoded and joined.",
    "Scans: Optical Recognition of Handwritten Digits by E. Alpaydin and C. Kaynak, UCI, CC BY 4.0; put side by side.",
)
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Sources:
    """Decoded scans [8, 8] uint8 and recordings [T] float32 by (split, digit) and (split, speaker, digit)."""

    scans: dict[tuple[str, int], list[Array]]
    sounds: dict[tuple[str, str, int], list[Array]]
    speakers: tuple[str, ...]


@cache
def sources() -> Sources:
    """Every scan and recording, decoded once."""
    import pyarrow.parquet as pq

    with as_file(files("multicl.recipes") / "data" / "spoken_codes.parquet") as path:
        rows = pq.read_table(path).to_pylist()
    scans: dict[tuple[str, int], list[Array]] = {}
    sounds: dict[tuple[str, str, int], list[Array]] = {}
    for row in rows:
        if row["kind"] == "scan":
            pixels = np.asarray(Picture.open(io.BytesIO(row["image"])).convert("L"))
            scans.setdefault((row["split"], row["label"]), []).append(pixels)
        else:
            wave = soundfile.read(io.BytesIO(row["audio"]), dtype="float32")[0]
            sounds.setdefault((row["split"], row["speaker"], row["label"]), []).append(wave)
    return Sources(scans, sounds, tuple(sorted({speaker for _, speaker, _ in sounds})))


@cache
def codes() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The 800 codes of training and the 200 that are held out."""
    order = np.random.default_rng(2026).permutation(1000)
    every = [f"{i:03d}" for i in order]
    return tuple(every[HELD_OUT:]), tuple(every[:HELD_OUT])


def say(code: str) -> str:
    """A code in words: "483" -> "four eight three"."""
    return " ".join(WORDS[int(digit)] for digit in code)


def written(code: str, split: str, rng: np.random.Generator) -> Array:
    """[8, 24] uint8: a scan of each digit, side by side."""
    return np.concatenate([_any(sources().scans[split, int(d)], rng) for d in code], axis=1)


def spoken(code: str, split: str, rng: np.random.Generator, speakers: Sequence[str]) -> dict[str, Any]:
    """One speaker's recording of each digit, joined with pauses of 20 to 80 ms."""
    speaker = speakers[int(rng.integers(len(speakers)))]
    parts: list[Array] = []
    for digit in code:
        pause = np.zeros(rng.integers(RATE // 50, RATE // 12), np.float32)
        parts += [_any(sources().sounds[split, speaker, int(digit)], rng), pause]
    return {"array": np.concatenate(parts), "sampling_rate": RATE, "speaker": speaker}


def training_speakers() -> tuple[str, ...]:
    """All speakers but the one who is left out."""
    return tuple(s for s in sources().speakers if s != UNSEEN_SPEAKER)


class TrainingRows:
    """Rows that are made on access, row i always the same: `renditions` of each code, written and spoken.

    Args:
        together: a row has scans, a recording and words, instead of words with one of the two.
    """

    def __init__(self, renditions: int, together: bool = False) -> None:
        self.renditions, self.together = renditions, together

    def __len__(self) -> int:
        return (1 if self.together else 2) * len(codes()[0]) * self.renditions

    def __getitem__(self, index: int) -> dict[str, Any]:
        at = index if self.together else index // 2
        code = codes()[0][at % len(codes()[0])]
        rng = np.random.default_rng([1, index])
        row: dict[str, Any] = {"image": None, "audio": None, "text": say(code), "code": code}
        if self.together or not index % 2:
            row["image"] = written(code, "train", rng)
        if self.together or index % 2:
            row["audio"] = spoken(code, "train", rng, training_speakers())
        return row


def held_out(speakers: Sequence[str]) -> dict[str, list[Any]]:
    """The 200 unseen codes, made of scans and recordings never trained on: columns code, text, image, audio."""
    rng = np.random.default_rng(7)
    test = codes()[1]
    return {
        "code": list(test),
        "text": [say(code) for code in test],
        "image": [written(code, "test", rng) for code in test],
        "audio": [spoken(code, "test", rng, speakers) for code in test],
    }


def held_out_rows() -> list[dict[str, Any]]:
    """`held_out` for the speakers that training hears, as rows."""
    columns = held_out(training_speakers())
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _any(choices: list[Array], rng: np.random.Generator) -> Array:
    return choices[rng.integers(len(choices))]
