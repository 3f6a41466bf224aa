"""Long sounds in evaluation: cut into windows as long as in training, embedded separately and averaged."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from multicl.types import Batch

ROW = "window_of"
"""Name in the Batch of int64 [windows]: the row that each window belongs to."""


def by_windows(encoder: nn.Module, samples: int) -> nn.Module:
    """The encoder itself, with hooks: it reads sounds longer than `samples` in windows, spaced evenly over each sound.

    Parameters keep their names, so a model loads with and without windows. Nothing changes for shorter sounds, nor in
    training, where sounds are cut on loading. A sound's features do not depend on its batch.
    """
    encoder.register_forward_pre_hook(Cut(samples))
    encoder.register_forward_hook(mean)
    return encoder


class Cut:
    """Forward pre-hook of the encoder: Batch of sounds -> Batch of their windows.

    Args:
        samples: length of a window.
    """

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __call__(self, encoder: nn.Module, inputs: tuple[Batch]) -> tuple[Batch] | None:
        """The encoder's new input; None: unchanged."""
        (batch,) = inputs
        wave, lengths = batch.get("wave"), batch.get("lengths")
        if encoder.training or wave.shape[1] <= self.samples:
            return None
        parts, of = [], []
        for row, length in enumerate(lengths.tolist()):
            count = -(-length // self.samples)
            for number in range(count):
                start = (length - self.samples) * number // (count - 1) if count > 1 else 0
                parts.append(wave[row, start : min(length, start + self.samples)])
                of.append(row)
        sizes = torch.tensor([len(part) for part in parts], device=wave.device)
        padded = nn.utils.rnn.pad_sequence(parts, batch_first=True)
        rows = torch.tensor(of, device=wave.device)
        return (Batch({"wave": padded, "lengths": sizes, ROW: rows}, padded=("wave",)),)


def mean(encoder: nn.Module, inputs: tuple[Any, ...], each: Tensor) -> Tensor | None:
    """Forward hook of the encoder: [windows, width] -> means [B, width]; None: unchanged."""
    (batch,) = inputs
    if ROW not in batch:
        return None
    of = batch.get(ROW).tolist()
    total = each.new_zeros(of[-1] + 1, each.shape[1])
    for row, part in zip(of, each, strict=True):  # one by one: the same order of sums on every device
        total[row] += part
    averaged: Tensor = total / batch.get(ROW).bincount()[:, None].to(each.dtype)
    return averaged
