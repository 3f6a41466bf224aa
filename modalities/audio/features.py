"""Spectrograms of CLAP and AST, a batch at a time on its own device.

transformers' feature extractors compute them a clip at a time on the CPU: about 20 ms for CLAP's 10 s. The functions
here give the same numbers, from the extractors' own settings.
Dimensions: B clips, T samples, F frames, M mel bands, N points of the transform.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchaudio.compliance.kaldi import get_mel_banks
from transformers import ASTFeatureExtractor, ClapFeatureExtractor

from multicl.modalities.audio.mel import within

TOGETHER = 16
"""Clips that a GPU transforms at once. A CPU takes one: a spectrum is larger than its sound and leaves the cache."""


def of_batch(extractor: Any, wave: Tensor, lengths: Tensor) -> dict[str, Tensor] | None:
    """An extractor's output for clips, on their device; None if the extractor is not known here or the device lacks
    float64.

    Args:
        wave: [B, T] float32. lengths: [B], at most what the extractor hears, at least its window.
    """
    features = FEATURES.get(type(extractor))
    if features is None or wave.device.type == "mps":
        return None
    wave = wave * within(lengths, wave.shape[1])
    together = 1 if wave.device.type == "cpu" else TOGETHER
    with torch.autocast(wave.device.type, enabled=False):
        parts = zip(wave.split(together), lengths.split(together), strict=True)
        found = torch.cat([features(extractor, *part).float() for part in parts])
    return {extractor.model_input_names[0]: found}


def clap(extractor: ClapFeatureExtractor, wave: Tensor, lengths: Tensor) -> Tensor:
    """[B, 1, F, M] decibels; [B, 4, F, M], four copies, if the model fuses parts of long clips. Shorter clips are
    repeated or padded to `nb_max_samples`, as the extractor's `padding` says."""
    fusion, size, counts = extractor.truncation == "fusion", int(extractor.nb_max_samples), lengths[:, None]
    place = torch.arange(size, device=wave.device)
    whole = {"repeat": torch.full_like(counts, size), "repeatpad": size // counts * counts}
    filled = whole.get(extractor.padding, counts)
    at = (place % counts).clamp(max=wave.shape[1] - 1)
    sound = wave.gather(1, at).double() * (place < filled)
    points = int(extractor.fft_window_size)
    window = torch.hann_window(points, dtype=torch.float64, device=wave.device)
    padded = pad(sound[:, None], (points // 2, points // 2), mode="reflect")[:, 0]
    mel = _power(padded.unfold(1, points, int(extractor.hop_length)) * window) @ _clap_bank(extractor, wave.device)
    return (10 * mel.clamp(min=1e-10).log10())[:, None].expand(-1, 4 if fusion else 1, -1, -1)


def kaldi_frames(rate: int) -> tuple[int, int]:
    """Samples of a frame (25 ms) and of a hop (10 ms)."""
    return int(rate * 0.025), int(rate * 0.01)


def ast(extractor: ASTFeatureExtractor, wave: Tensor, lengths: Tensor) -> Tensor:
    """[B, F, M]: Kaldi's log-mel energies, as in `torchaudio.compliance.kaldi.fbank`, normalised as the extractor says;
    frames beyond a clip are zero before that."""
    rate, most = int(extractor.sampling_rate), int(extractor.max_length)
    size, hop = kaldi_frames(rate)
    points = 1 << (size - 1).bit_length()
    frames = wave.unfold(1, size, hop)[:, :most]  # [B, f, size]
    frames = frames - frames.mean(2, keepdim=True)
    before = torch.cat((frames[..., :1], frames[..., :-1]), 2)
    frames = (frames - 0.97 * before) * torch.hann_window(size, periodic=False, device=wave.device)
    power = _power(pad(frames, (0, points - size)))
    mel = power[..., : points // 2] @ _kaldi_bank(extractor.num_mel_bins, points, rate, wave.device)
    energies = mel.clamp(min=torch.finfo(torch.float32).eps).log()
    energies = energies * within(1 + (lengths - size) // hop, energies.shape[1])[..., None]
    energies = pad(energies, (0, 0, 0, most - energies.shape[1]))
    return (energies - extractor.mean) / (2 * extractor.std) if extractor.do_normalize else energies


@functools.lru_cache(maxsize=8)
def _clap_bank(extractor: ClapFeatureExtractor, device: torch.device) -> Tensor:
    """The extractor's own mel bank, [N / 2 + 1, M] float64; cached, as a copy to a GPU synchronises with it."""
    fusion = extractor.truncation == "fusion"
    return torch.as_tensor(extractor.mel_filters if fusion else extractor.mel_filters_slaney).to(device).double()


@functools.lru_cache(maxsize=8)
def _kaldi_bank(mels: int, points: int, rate: int, device: torch.device) -> Tensor:
    """The mel bank with the settings of `kaldi.fbank`, [N / 2, M] float64."""
    bank, _ = get_mel_banks(mels, points, float(rate), 20.0, 0.0, 100.0, -500.0, 1.0)
    turned: Tensor = bank.to(device).double().T
    return turned


def _power(frames: Tensor) -> Tensor:
    """[..., N] -> power, float64 [..., N / 2 + 1]. The transform is rounded to float32, as in transformers."""
    found = torch.fft.rfft(frames).to(torch.complex64)
    power: Tensor = found.real.square().addcmul_(found.imag, found.imag)
    return power.double()


FEATURES: dict[type, Callable[[Any, Tensor, Tensor], Tensor]] = {ClapFeatureExtractor: clap, ASTFeatureExtractor: ast}
