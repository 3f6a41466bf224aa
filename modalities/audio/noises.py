"""Recorded noises from a folder as backgrounds, such as MUSAN (arXiv:1510.08484) or recordings of your own rooms."""

from __future__ import annotations

import functools
import logging
import random
from pathlib import Path

import torch

from multicl.modalities.audio import decode
from multicl.modalities.audio.background import Sounds
from multicl.types import BadSample, InputError

log = logging.getLogger(__name__)

SUFFIXES = {".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav"}
MOST_SECONDS = 600.0
"""Seconds that are kept of a folder at most: 38 MB at 16 kHz."""
EACH_SECONDS = 10.0
"""Seconds that are kept of each sound at most, unless there are too few sounds to reach `MOST_SECONDS`."""


@functools.lru_cache(maxsize=8)
def read(folder: str, rate: int, channel: str, device: torch.device) -> Sounds:
    """The sounds of a folder and its subfolders, on a device; read once per process.

    Of a large folder, a random part is read, the same in every process and on every machine: a random window of each
    sound, in random order, until there are `MOST_SECONDS`.

    Args:
        folder, rate, channel: `noises`, `rate` and `channel` of `Audio`.

    Raises:
        InputError: the folder does not exist, or holds no sound that can be read.
    """
    if device.type != "cpu":
        wave, first, lengths = read(folder, rate, channel, torch.device("cpu"))
        return Sounds(wave.to(device), first.to(device), lengths.to(device))
    paths, dice = _paths(folder), random.Random(0)
    dice.shuffle(paths)
    seconds = max(EACH_SECONDS, MOST_SECONDS / len(paths))
    parts, left, bad = [], round(MOST_SECONDS * rate), []
    for path in paths:
        try:
            part = decode.resample(*decode.read(path, seconds, dice, channel), rate)[:left]
        except BadSample as error:
            bad.append(str(error))
            continue
        parts.append(part)
        left -= len(part)
        if left == 0:
            break
    if not parts:
        raise InputError(f"noises={folder!r}: none of its {len(paths)} sounds can be read; {bad[0]}")
    if bad:
        shown = "; ".join(bad[:3]) + ("; ..." if len(bad) > 3 else "")
        log.warning("noises=%r: %d sounds cannot be read and are left out: %s", folder, len(bad), shown)
    lengths = torch.tensor([len(part) for part in parts])
    return Sounds(torch.cat(parts), lengths.cumsum(0) - lengths, lengths)


def _paths(folder: str) -> list[Path]:
    """Files with an audio suffix, except hidden ones, sorted by their path within the folder."""
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"noises={folder!r}: there is no such folder")
    found = [path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    if not found:
        raise InputError(f"noises={folder!r}: it holds no sound (no file that ends with {', '.join(sorted(SUFFIXES))})")
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())
