"""Tiny pictures, sounds, texts and tables of them: eight things that can be seen, heard and named, and told apart."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from PIL import Image

RATE = 8000
COLORS = ("red", "green", "blue", "yellow", "purple", "cyan", "white", "brown")
_RGB = (
    (220, 30, 30),
    (30, 200, 30),
    (30, 30, 220),
    (220, 220, 30),
    (150, 30, 180),
    (30, 200, 200),
    (240,) * 3,
    (120, 70, 20),
)
Row = dict[str, Any]


def pixels(thing: int, seed: int = 0, size: int = 16) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """[size, size, 3] uint8: a field of the thing's colour, with noise that is the seed's own."""
    noise = np.random.default_rng([thing, seed]).normal(0, 20, (size, size, 3))
    return (np.array(_RGB[thing % 8]) + noise).clip(0, 255).astype(np.uint8)


def png(thing: int, seed: int = 0, size: int = 16) -> bytes:
    """`pixels`, encoded."""
    buffer = io.BytesIO()
    Image.fromarray(pixels(thing, seed, size)).save(buffer, "PNG")
    return buffer.getvalue()


def wave(thing: int, seed: int = 0, seconds: float = 0.2) -> np.ndarray[Any, np.dtype[np.float32]]:
    """[T] float32 at 8 kHz: the thing's tone, with noise that is the seed's own."""
    t = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng([thing, seed]).normal(0, 0.02, len(t))
    return (0.4 * np.sin(2 * np.pi * (250 + 200 * (thing % 8)) * t) + noise).astype(np.float32)


def wav(thing: int, seed: int = 0, seconds: float = 0.2) -> bytes:
    """`wave`, encoded."""
    return encoded(wave(thing, seed, seconds))


def encoded(samples: Any, subtype: str = "PCM_16") -> bytes:
    """Samples [T] at 8 kHz as a WAV file; subtype "FLOAT" holds NaN too."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="WAV", subtype=subtype)
    return buffer.getvalue()


def rows(count: int, seed: int = 0) -> list[Row]:
    """Rows of one thing each, by turns: image, audio, text (all different), label, and the text of another thing."""
    return [
        {
            "image": png(i, seed),
            "audio": wav(i, seed),
            "text": f"{COLORS[i % 8]} thing {seed} {i}",
            "label": i % 8,
            "negative": f"{COLORS[(i + 1) % 8]} thing {seed} {i}",
        }
        for i in range(count)
    ]


def scored(count: int = 12) -> list[Row]:
    """Pairs of sentences and how alike they are: by the words they share."""
    a, b = ([f"the {COLORS[(i + shift * (i % 3)) % 8]} thing number {i % 4}" for i in range(count)] for shift in (0, 1))
    return [
        {"sentence1": x, "sentence2": y, "score": 5.0 - 1.5 * (i % 3)}
        for i, (x, y) in enumerate(zip(a, b, strict=True))
    ]


def write(path: Path, table: Sequence[Mapping[str, Any]]) -> Path:
    """Rows as a Parquet file; its columns are those of the first row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: [row[name] for row in table] for name in table[0]}), path)
    return path


def folder(path: Path, train: int = 32, test: int = 12) -> Path:
    """A data set: train.parquet and test.parquet of `rows`, and sts.parquet beside, in a folder of its own."""
    write(path / "train.parquet", rows(train))
    write(path / "test.parquet", rows(test, seed=1))
    return path
