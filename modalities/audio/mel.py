"""The log-mel front end and SpecAugment.

Dimensions: B rows, T samples, F frames, M mel bands, N points of the transform.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from multicl.types import InputError

if TYPE_CHECKING:
    from multicl.types import Batch

STRAIGHT = 0.6
"""Fraction of the top frequency: below it, before and after a warp, frequencies are simply multiplied by the factor."""
IN_CACHE = 2**19  # floats (frames times N) per slice on a CPU; larger slices are ten times slower


class LogMel(nn.Module):
    """Waveforms -> log-mel spectrograms, zero mean and unit variance per clip.

    Frames are centred on multiples of the hop, with silence beyond the clip's ends. Mean and variance are over valid
    frames, so a clip's spectrogram does not depend on its batch. It is computed in float32 under autocast, too.

    Args:
        rate: Hz.
        mels: number of bands, on the HTK scale from 0 Hz to rate / 2.
        window_ms: length of the Hann window.
        hop_ms: from frame to frame.
        by_band: each band has mean 0, which removes the constant coloration by microphone, room and voice.
        root: instead of the logarithm, power relative to the clip's maximum is raised to this exponent in (0, 1].

    Raises:
        InputError: more bands than a transform of reasonable size resolves.
    """

    window: Tensor
    bank: Tensor

    def __init__(
        self, rate: int, mels: int = 64, window_ms: float = 25.0, hop_ms: float = 10.0, by_band: bool = False,
        root: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.mels = mels
        self.top = rate / 2
        self.by_band, self.root = by_band, root
        self.width = max(2, round(rate * window_ms / 1000))
        self.hop = max(1, round(rate * hop_ms / 1000))
        self.points, bank = _bank(rate, mels, self.width)
        self.register_buffer("window", torch.hann_window(self.width), persistent=False)
        self.register_buffer("bank", bank, persistent=False)

    def forward(self, wave: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T] float, zero beyond lengths [B] -> ([B, M, F] float32, zero beyond the frames; frames [B] int64)."""
        frames = lengths // self.hop + 1
        total = wave.shape[1] // self.hop + 1
        rows = len(wave) if wave.device.type != "cpu" else max(1, IN_CACHE // (total * self.points))
        with torch.autocast(wave.device.type, enabled=False):
            mel = torch.cat([self.power(part) for part in wave.float().split(rows)])  # [B, F, M]
            valid = within(frames, total)[:, None]  # [B, 1, F]
            x, least = self._compressed(mel.transpose(1, 2), valid)  # [B, M, F]
            count = frames[:, None, None] * self.mels
            sums = (x * valid).sum(2, keepdim=True)  # [B, M, 1]
            x = x - (sums / frames[:, None, None] if self.by_band else sums.sum(1, keepdim=True) / count)
            x = x * valid
            variance = x.square().sum((1, 2), keepdim=True) / count
            return x * (variance + least).rsqrt(), frames  # silence stays zero

    def _compressed(self, mel: Tensor, valid: Tensor) -> tuple[Tensor, float]:
        """Power [B, M, F] -> its logarithm or root, and a term that is small compared with a sound's variance."""
        if self.root is None:
            return (mel + 1e-6).log(), 1e-2
        most = (mel * valid).amax((1, 2), keepdim=True).clamp(min=1e-12)
        return (mel / most) ** self.root, 1e-6

    def power(self, wave: Tensor) -> Tensor:
        """[b, T] float32 -> [b, F, M] float32: the power in each band, of frames centred on multiples of the hop."""
        left = self.width // 2
        padded = nn.functional.pad(wave, (left, self.width - left))
        windowed = padded.unfold(1, self.width, self.hop) * self.window  # [b, F, width]
        spectrum: Tensor = torch.fft.rfft(windowed, n=self.points)  # [b, F, N/2 + 1]
        power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)  # faster than sums over pairs
        return power @ self.bank.to(power.dtype)  # a user may have cast it to half precision


def within(lengths: Tensor, size: int) -> Tensor:
    """[B] -> [B, size] bool: positions before each length."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def covered(masks: Tensor, lengths: Tensor, size: int) -> Tensor:
    """Masks [B, n, 2] of start and width as fractions of lengths [B] -> [B, size] bool: positions under any mask."""
    at = (torch.arange(size, device=masks.device) + 0.5) / lengths[:, None]  # [B, size]
    start, width = masks.unbind(2)  # [B, n]
    return ((at[:, None] >= start[..., None]) & (at[:, None] < (start + width)[..., None])).any(1)


def warped(x: Tensor, factors: Tensor, top: float) -> Tensor:
    """Mel bands with formants lowered by a factor: vocal tract length perturbation.

    A band takes the value at its own frequency times the factor, interpolated linearly between two bands. The highest
    frequencies move less, along a straight line to the top, so that nothing beyond the top is needed (Jaitly and Hinton
    2013, "Vocal Tract Length Perturbation improves speech recognition", section 3).

    Args:
        x: [B, M, F]. factors: [B]. top: Hz, where the bands end; they begin at 0, on the HTK scale.

    Returns:
        [B, M, F].
    """
    bands, dtype = x.shape[1], factors.dtype
    mels = torch.arange(1, bands + 1, device=x.device, dtype=dtype) / (bands + 1) * _to_mels(top)
    hertz = 700 * (10 ** (mels / 2595) - 1)  # [M]
    bend = STRAIGHT * top * factors[:, None].clamp(max=1) / factors[:, None]  # [B, 1]
    slope = (top - bend * factors[:, None]) / (top - bend)
    asked = torch.where(hertz <= bend, hertz * factors[:, None], top - slope * (top - hertz))  # [B, M]
    at = 2595 * (1 + asked / 700).log10() / _to_mels(top) * (bands + 1) - 1
    at = at.clamp(0, bands - 1)
    low = at.long().clamp(max=max(0, bands - 2))
    part = (at - low).to(x.dtype)[..., None]
    low = low[..., None].expand_as(x)
    return x.gather(1, low).lerp(x.gather(1, (low + 1).clamp(max=bands - 1)), part)


def time_warped(x: Tensor, frames: Tensor, points: Tensor) -> Tensor:
    """Spectrograms with a warped time axis: one point moves, both sides stretch or shrink evenly, the ends stay.

    SpecAugment's time warping (arXiv:1904.08779, section 2), with linear interpolation between frames.

    Args:
        x: [B, M, F], zero beyond frames [B]. points: [B, 2], where the point is and where it goes, as fractions in
            (0, 1) of the time from the first valid frame to the last.

    Returns:
        [B, M, F], zero beyond the frames.
    """
    from_, to = points[:, :1], points[:, 1:]
    last = frames[:, None] - 1
    at = torch.arange(x.shape[2], device=x.device).minimum(last)  # [B, F]
    asked = torch.where(at <= to * last, at * (from_ / to), last - (last - at) * ((1 - from_) / (1 - to)))
    low = asked.long()
    part = (asked - low).to(x.dtype)[:, None]
    low, high = (frame.clamp(max=x.shape[2] - 1)[:, None].expand_as(x) for frame in (low, low + 1))
    return x.gather(2, low).lerp(x.gather(2, high), part) * within(frames, x.shape[2])[:, None]


def _to_mels(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def spec_augment(x: Tensor, frames: Tensor, batch: Batch, top: float | None = None) -> Tensor:
    """Apply the batch's warps and masks, if any, to x [B, M, F], zero beyond frames [B]: masked places become 0.

    Args:
        top: Hz, where the bands end; None: x has channels that are not ordered by frequency, and is not warped.
    """
    if "warp" in batch and top is not None:
        x = warped(x, batch.get("warp"), top)
    if "time_warp" in batch and top is not None:
        x = time_warped(x, frames, batch.get("time_warp"))
    if "time_masks" in batch:
        x = x.masked_fill(covered(batch.get("time_masks"), frames, x.shape[2])[:, None], 0)
    if "freq_masks" in batch:
        bands = torch.full_like(frames, x.shape[1])
        x = x.masked_fill(covered(batch.get("freq_masks"), bands, x.shape[1])[:, :, None], 0)
    return x


def _bank(rate: int, mels: int, width: int) -> tuple[int, Tensor]:
    """(N, filter bank [N/2 + 1, M]); N is the smallest power of two that holds the window and leaves no band empty."""
    points = 1 << (width - 1).bit_length()
    for _ in range(6):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about empty bands, which are checked below
            bank = melscale_fbanks(points // 2 + 1, 0.0, rate / 2, mels, rate)
        if bool((bank.sum(0) > 0).all()):
            return points, bank
        points *= 2
    raise InputError(f"mels={mels}: too many bands for a window of {width} samples at {rate} Hz; ask for fewer")
