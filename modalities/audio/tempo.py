"""Sounds played faster or slower at their own pitch, each row by its own factor, with a phase vocoder.

The short-time spectrum is read at frames 0, f, 2f, ... instead of 0, 1, 2, ...: magnitudes between frames are
interpolated, and each band's phase advances from frame to frame as it did there (Flanagan and Golden 1966, "Phase
Vocoder"; Dolson 1986, "The Phase Vocoder: A Tutorial"). `torchaudio.functional.phase_vocoder` computes the same with
one factor for all rows. Like there, the phases of bands drift apart where a sound changes suddenly: a steady tone stays
clean, a click is smeared over a frame, and sound after silence may become quieter.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from multicl.modalities.audio.mel import within
from multicl.modalities.audio.speed import STEPS, lengths_at, longest, longest_at

FRAME_MS = 64
"""Frame length, rounded to a power of two in samples: long enough to separate the harmonics of a low voice."""
AT_ONCE = 2**24  # samples per slice on an accelerator: their spectra and phases take about 1.5 GB


def at_tempo(wave: Tensor, lengths: Tensor, factors: Tensor, rate: int) -> Tensor:
    """Play each row faster by its factor, with its frequencies unchanged.

    Args:
        wave: [B, T] float32, zero beyond lengths [B].
        factors: [B] int64, in fortieths: 50 is 1.25 times as fast, 40 leaves a row unchanged. Factors on the CPU avoid
            synchronising with a GPU.
        rate: Hz.

    Returns:
        [B, T'] float32, zero beyond `lengths_at`; T' is `longest_at`.
    """
    if len(wave) == 0:
        return wave
    sizes = lengths_at(lengths, factors)
    kept, changed = (factors == STEPS).to(wave.device, non_blocking=True), (factors != STEPS).nonzero()[:, 0]
    more = longest_at(wave, lengths, factors) - wave.shape[1]
    out = nn.functional.pad(wave * kept[:, None], (0, more))  # a negative pad cuts
    points = 1 << round(math.log2(rate * FRAME_MS / 1000))
    # on a CPU, a row at a time: it stays in cache, and gives the same bits in any batch
    several = 1 if wave.device.type == "cpu" else max(1, AT_ONCE // max(wave.shape[1], out.shape[1]))
    for rows in changed.split(several) if len(changed) else ():
        own, here = (x.to(wave.device, non_blocking=True) for x in (factors[rows], rows))
        widest = longest_at(wave, lengths[here], factors[rows])
        part = _vocoded(wave[here, : longest(wave, lengths[here])], own, widest, points)
        out[here, :widest] = part * within(sizes[here], widest)
    return out


def _vocoded(wave: Tensor, factors: Tensor, widest: int, points: int) -> Tensor:
    """[b, T] -> [b, widest], with silence before and after; frames of `points` samples, a quarter of that apart."""
    hop, window = points // 4, torch.hann_window(points, device=wave.device)
    padded = nn.functional.pad(wave, (0, points))  # the last two frames are silent
    spectrum = torch.stft(padded, points, hop, window=window, pad_mode="constant", return_complex=True)
    size, phase = spectrum.abs().transpose(1, 2), spectrum.angle().transpose(1, 2)  # [b, F, points/2 + 1]
    count = (widest + points // 2) // hop + 1  # all frames that overlap the result
    steps = torch.arange(count, device=wave.device) * factors[:, None]  # [b, count], in fortieths of a frame
    row, low = torch.arange(len(wave), device=wave.device)[:, None], (steps // STEPS).clamp(max=size.shape[1] - 2)
    between = (steps % STEPS / STEPS)[..., None]
    size = size[row, low].lerp(size[row, low + 1], between)
    turns = (phase[row, low + 1] - phase[row, low])[:, :-1]
    phases = torch.cat([phase[:, :1], turns], 1).cumsum(1, dtype=torch.float64).remainder(2 * math.pi).float()
    return _inverse(torch.polar(size, phases), window, widest)


def _inverse(spectrum: Tensor, window: Tensor, length: int) -> Tensor:
    """[b, F, N/2 + 1] -> [b, length], like `torch.istft` of frames N/4 apart, which would synchronise with a GPU."""
    points, hop, count = len(window), len(window) // 4, spectrum.shape[1]
    frames = torch.fft.irfft(spectrum, n=points) * window
    sums = []
    for each in (frames, window.square().expand(1, count, -1)):
        total = each.new_zeros(len(each), count + 3, hop)
        for quarter in (3, 2, 1, 0):  # from the last on, so that earlier frames are added first
            total[:, quarter : quarter + count] += each[..., quarter * hop : (quarter + 1) * hop]
        sums.append(total.flatten(1)[:, points // 2 : points // 2 + length])
    return sums[0] / sums[1]
