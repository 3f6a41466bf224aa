"""Log-mels as feature vectors: the baseline that an audio encoder must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from multicl.modalities.audio.mel import LogMel
from multicl.types import BadSample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multicl.modalities.audio.settings import Audio


FRAMES = 32


def log_mels(audio: Audio, cells: Sequence[Any], skipped: dict[int, str]) -> Tensor:
    """Each sound's log-mels, stretched or squeezed to `FRAMES` frames.

    Args:
        cells: as `Audio.load` takes them. skipped: receives position -> reason for each cell that cannot be read.

    Returns:
        [N, mels * FRAMES], zero where a cell cannot be read.
    """
    front, found = LogMel(audio.rate, audio.mels, audio.window_ms, audio.hop_ms), []
    for i, cell in enumerate(cells):
        try:
            batch = audio.collate([audio.load(cell, None)])
        except BadSample as error:
            skipped[i] = str(error)
            found.append(torch.zeros(audio.mels * FRAMES))
            continue
        mel, _ = front(batch.get("wave"), batch.get("lengths"))
        found.append(nn.functional.interpolate(mel, FRAMES).flatten())
    return torch.stack(found)
