"""Long sounds in evaluation: windows of the length that training hears, embedded one by one and averaged."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multicl.types import Batch


class Windowed(nn.Module):
    """An encoder that hears a sound longer than a window as several, spaced evenly from its beginning to its end.

    In training, where sounds are cut on loading, and for shorter sounds it is the encoder itself. A sound's windows and
    their mean do not depend on the batch that it comes in.

    Args:
        encoder: Batch -> [B, width]. samples: of a window.
    """

    def __init__(self, encoder: nn.Module, samples: int) -> None:
        super().__init__()
        self.encoder, self.samples = encoder, samples
        self.width = encoder.width

    def forward(self, batch: Batch) -> Tensor:
        """Batch of "wave" and "lengths" -> [B, width]."""
        wave, lengths = batch.get("wave"), batch.get("lengths")
        if self.training or wave.shape[1] <= self.samples:
            found: Tensor = self.encoder(batch)
            return found
        parts, of = [], []
        for row, length in enumerate(lengths.tolist()):
            count = -(-length // self.samples)
            for number in range(count):
                start = (length - self.samples) * number // (count - 1) if count > 1 else 0
                parts.append(wave[row, start : min(length, start + self.samples)])
                of.append(row)
        sizes = torch.tensor([len(part) for part in parts], device=wave.device)
        padded = nn.utils.rnn.pad_sequence(parts, batch_first=True)
        each: Tensor = self.encoder(Batch({"wave": padded, "lengths": sizes}, padded=("wave",)))
        counts = -(-lengths // self.samples)
        total = each.new_zeros(len(wave), each.shape[1])
        for row, part in zip(of, each, strict=True):  # one after the other: the same order on every device
            total[row] += part
        return total / counts[:, None].to(each.dtype)
