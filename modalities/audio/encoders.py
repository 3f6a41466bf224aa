"""Encoders to train from scratch: `Small` on log-mels, `SmallWave` on waveforms, and any module of the user's.

`build` gives the encoder that settings describe, which may also be a Hugging Face model (`pretrained`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from multicl.modalities.audio.changes import require
from multicl.modalities.audio.mel import LogMel, covered, spec_augment, within
from multicl.modalities.audio.parts import change, equal_parts
from multicl.modalities.probing import probing
from multicl.modalities.wide import as_wide
from multicl.types import Batch, InputError

if TYPE_CHECKING:
    from multicl.modalities.audio.settings import Audio


class Small(nn.Module):
    """A residual convolutional net on log-mels that keeps order in time: "one two" is not "two one".

    Mel bands are the channels. A stem of stride 4 makes frames of 40 ms. Residual convolutions follow (pre-activation,
    arXiv:1603.05027); three of them see 0.5 s around a frame. The output concatenates means over parts of the clip,
    equal in length or in how much changes within them. Norms are over one frame, and positions beyond a clip's length
    stay zero, so padding changes nothing.
    """

    channels = 128
    segments = 8
    rows = 16
    """On a CPU, rows are sorted by length and encoded this many at a time: little padding, and activations in cache."""

    def __init__(
        self, front: LogMel | Filters, width: int | None = 256, depth: int = 3, stride: int = 4, by_change: bool = False
    ) -> None:
        """
        Args:
            front: waveforms -> bands. width: output width of a last linear layer; None: there is no such layer.
            depth: number of residual convolutions. stride: the stem's, in the front's frames.
            by_change: parts are equal in change (see `parts`), not in length.
        """
        super().__init__()
        self.stride, self.by_change = stride, by_change
        pooled = self.segments * self.channels
        self.width = pooled if width is None else width
        self.front = front
        self.stem = nn.Conv1d(front.mels, self.channels, 5, stride=self.stride, padding=2)
        self.convs = nn.ModuleList(nn.Conv1d(self.channels, self.channels, 5, padding=2) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(self.channels) for _ in range(depth + 1))
        self.out = nn.Identity() if width is None else nn.Linear(pooled, width)

    def forward(self, batch: Batch) -> Tensor:
        """Batch of "wave" and "lengths" -> [B, width]."""
        if batch.device.type != "cpu" or len(batch) <= 1:
            return self._encode(batch)
        order = batch.get("lengths").argsort()
        parts = [batch[rows] for rows in order.split(self.rows)]
        encoded = [self._encode(part.replace(wave=part.get("wave")[:, : part.get("lengths")[-1]])) for part in parts]
        return torch.cat(encoded)[order.argsort()]

    def _encode(self, batch: Batch) -> Tensor:
        x, frames = self.front(batch.get("wave"), batch.get("lengths"))
        held = change(x, frames) if self.by_change else None  # before masks, whose edges are no change of the sound
        x = spec_augment(x, frames, batch, self.front.top)
        x = self.stem(x).transpose(1, 2)  # [B, F, C]
        frames = (frames - 1) // self.stride + 1
        valid = within(frames, x.shape[1])[..., None]
        for conv, norm in zip(self.convs, self.norms, strict=False):
            y = nn.functional.gelu(norm(x)) * valid
            x = x + conv(y.transpose(1, 2)).transpose(1, 2)
        x = nn.functional.gelu(self.norms[-1](x))
        weights = valid[..., 0].float() if held is None else self._strided(held)
        pooled = equal_parts(weights, self.segments).to(x.dtype) @ x  # [B, segments, C]
        out: Tensor = self.out(pooled.flatten(1))
        return out

    def _strided(self, held: Tensor) -> Tensor:
        """[B, F] over the front's frames -> sums over the stem's frames."""
        whole = nn.functional.pad(held, (0, -held.shape[1] % self.stride))
        strided: Tensor = whole.unflatten(1, (-1, self.stride)).sum(2)
        return strided


class SmallWave(Small):
    """`Small` on learnt filters of the waveform in place of log-mels; time masks silence the waveform."""

    def __init__(
        self, rate: int, width: int | None = 256, depth: int = 3, stride: int = 4, by_change: bool = False
    ) -> None:
        super().__init__(Filters(rate), width, depth, stride, by_change)

    def _encode(self, batch: Batch) -> Tensor:
        wave, lengths = batch.get("wave"), batch.get("lengths")
        if "time_masks" in batch:
            wave = wave.masked_fill(covered(batch.get("time_masks"), lengths, wave.shape[1]), 0)
        return super()._encode(Batch({"wave": wave, "lengths": lengths}, batch.row, batch.padded))


class Filters(nn.Module):
    """Strided convolutions instead of a spectrogram: waveforms -> frames of about 10 ms.

    Waveforms are scaled to unit power over their own length. Each convolution's output is set to zero beyond that
    length, and norms are over one frame, so padding changes nothing.
    """

    mels = 64
    """Output channels, as many as log-mels have bands by default."""
    top = None
    """None: learnt filters are not ordered by frequency."""

    def __init__(self, rate: int) -> None:
        super().__init__()
        rest = max(1, round(rate / 100 / 20))
        self.strides = (5, 4, rest)
        widths = (1, self.mels, self.mels, self.mels)
        self.convs = nn.ModuleList(
            nn.Conv1d(before, after, 2 * stride + 1, stride=stride, padding=stride)
            for before, after, stride in zip(widths, widths[1:], self.strides, strict=False)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(self.mels) for _ in self.strides)

    def forward(self, wave: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T] float32, zero beyond lengths [B] -> ([B, 64, F], zero beyond the frames; frames [B] int64)."""
        power = wave.double().square().sum(1) / lengths  # in float64, padding does not change a rounded sum
        x = (wave * (power + 1e-8).rsqrt().float()[:, None])[:, None]
        for conv, norm, stride in zip(self.convs, self.norms, self.strides, strict=True):
            lengths = (lengths - 1) // stride + 1
            x = nn.functional.gelu(norm(conv(x).transpose(1, 2))).transpose(1, 2)
            x = x * within(lengths, x.shape[2])[:, None]
        return x, lengths


class Custom(nn.Module):
    """A module of the user's own, called with log-mels [B, M, F] (masks applied) or, without a front, waves [B, T].

    Args:
        net: returns [B, W], or [B, W, ...], which is averaged. It gets no lengths: padding looks like silence to it.
        front: computes log-mels; None: the net reads waveforms.
        rate: Hz, for the dry run that finds W.

    Raises:
        InputError: the net does not run on a second of silence, or returns something else.
    """

    def __init__(self, net: nn.Module, front: LogMel | None, rate: int) -> None:
        super().__init__()
        self.net = net
        self.front = front
        self.width = self._dry_run(rate)

    def forward(self, batch: Batch) -> Tensor:
        """Batch of "wave" and "lengths" -> [B, width]."""
        x = batch.get("wave")
        if self.front is not None:
            x, frames = self.front(x, batch.get("lengths"))
            x = spec_augment(x, frames, batch, self.front.top)
        return self._pooled(x)

    def _pooled(self, x: Tensor) -> Tensor:
        y: Tensor = self.net(as_wide(self.net, x))
        return y.flatten(2).mean(2) if y.ndim > 2 else y

    def _dry_run(self, rate: int) -> int:
        parameter = next(self.net.parameters(), torch.empty(0))
        wave = torch.zeros(2, rate)
        x = wave if self.front is None else self.front(wave, torch.tensor([rate, rate]))[0]
        what = f"the audio encoder {type(self.net).__name__}, called with {list(x.shape)} float32,"
        try:
            with probing(self.net):
                y = self._pooled(x.to(parameter.device))
        except Exception as error:  # the user's code, which may raise anything
            raise InputError(f"{what} raised {type(error).__name__}: {error}") from error
        if y.ndim != 2 or len(y) != 2:
            raise InputError(f"{what} returned {list(y.shape)}; expected [2, width] or [2, width, ...]")
        return y.shape[1]


def build(settings: Audio, weights: bool) -> nn.Module:
    """The encoder that settings describe. `weights`: load those of a Hugging Face model.

    Raises:
        InputError: an unknown encoder, or one that needs another `rate`; `lora` for one that is not of Hugging Face.
    """
    if isinstance(settings.encoder, str) and settings.encoder != "small":
        from multicl.modalities import lora
        from multicl.modalities.audio import pretrained

        found = pretrained.build(settings.encoder, settings.rate, settings.max_seconds, weights)
        lora.adapted(found.model, settings.lora, "audio")
        return found
    require(not settings.lora, "lora", settings.lora, "0 unless the encoder is one of Hugging Face")
    bands = settings.mels, settings.window_ms, settings.hop_ms, settings.center == "band", settings.root
    front = LogMel(settings.rate, *bands)
    if isinstance(settings.encoder, str):
        width = 256 if settings.pooling == "linear" else None
        net = settings.depth, settings.stride, settings.parts == "change"
        return Small(front, width, *net) if settings.input == "mel" else SmallWave(settings.rate, width, *net)
    return Custom(settings.encoder, front if settings.input == "mel" else None, settings.rate)
