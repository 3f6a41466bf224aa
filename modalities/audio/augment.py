"""Random views of waveforms, a batch at a time on its device; each row draws its own parameters."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import torch

from multicl.modalities import seeded
from multicl.modalities.audio.background import Sounds, heard, mixed, partners, rms, rows_of
from multicl.modalities.audio.color import KNOTS, colored
from multicl.modalities.audio.mel import within
from multicl.modalities.audio.speed import STEPS, at_speed, drawn, lengths_at
from multicl.modalities.audio.tempo import at_tempo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from multicl.modalities.audio.changes import Augment
    from multicl.types import Batch


IN_CACHE = 2**19  # samples per slice on a CPU: with fewer, call overhead dominates; more fall out of cache


class Stream(IntEnum):
    """Random streams of one seed, one for each change: its draws do not depend on which other changes are on."""

    WINDOW = 0
    SHIFT = 1
    GAIN = 2
    POLARITY = 3
    NOISE = 4
    TIME = 5
    FREQ = 6
    SAMPLES = 7
    SPEED = 8
    BACKGROUND = 9
    WARP = 10
    STRETCH = 11
    TIME_WARP = 12
    COLOR = 13


def augment(
    batch: Batch, seeds: Tensor, settings: Augment, rate: int, longest: int | None = None, noises: Sounds | None = None
) -> Batch:
    """One view of each row.

    Args:
        batch: "wave" float32 [B, T], zero beyond "lengths" [B].
        seeds: [B] int64; a row's view depends on its own seed and samples alone, except that its background may be
            another row of the batch. Seeds on the CPU avoid synchronising with an accelerator.
        rate: Hz.
        longest: longer rows are cut to a random window of this many samples before `settings.crop`; None: no limit.
        noises: backgrounds to use instead of other rows; on the batch's device.

    Returns:
        "wave" [B, T'], zero beyond the new "lengths"; if `settings` ask for them, "time_masks" and "freq_masks"
        float32 [B, n, 2], "warp" float32 [B] and "time_warp" float32 [B, 2].
    """
    wave, lengths = batch.get("wave"), batch.get("lengths")
    on_cpu = wave.device.type == "cpu"
    given, seeds = seeds, seeds.to(wave.device, non_blocking=not on_cpu)
    given = seeds if on_cpu else given
    size, start = _window(seeds, lengths, settings, longest)
    shift = _shift(seeds, size, settings)
    factor = _factor(seeds, settings)
    # these select or group rows: drawn from seeds on the CPU, they are read without synchronising
    noise = _ratio(given, settings.noise, settings.noise_snr_db, Stream.NOISE)
    speeds = drawn(seeded.uniform(given, 1, stream=Stream.SPEED)[:, 0], *settings.speed)
    tempos = _tempos(given, settings)
    played = lengths_at(size, speeds)
    sizes = lengths_at(played, tempos)
    sounds = rows_of(wave, lengths) if noises is None else noises
    which, place, background = _background(seeds, settings, noises)
    colors = _colors(seeds, settings)
    # an upper bound of the rows' lengths, known without synchronising with the device
    most = wave.shape[1] if longest is None else min(longest, wave.shape[1])
    most = max(1, round(most * settings.crop[1]))
    out = wave.new_zeros(len(wave), _longest(most, settings))
    move, add_noise = (moved_by_row, with_noise_by_row) if on_cpu else (moved, with_noise)
    still = settings.crop == (1.0, 1.0) and settings.shift == 0 and longest is None
    for rows, widest in _slices(size, most, out.shape[1]):
        part = (
            wave[rows, :widest] * factor[rows, None]
            if still
            else move(wave[rows], widest, size[rows], start[rows], shift[rows], factor[rows])
        )
        if settings.speed != (1.0, 1.0):
            part = at_speed(part, size[rows], speeds[rows])
        if settings.stretch > 0:
            part = at_tempo(part, played[rows], tempos[rows], rate)
        if colors is not None:
            part = colored(part, sizes[rows], colors[rows], rate)
        if settings.background > 0 and (noises is not None or len(wave) > 1):
            beside = heard(sounds, which[rows], place[rows], sizes[rows], part.shape[1])
            part = mixed(part, sizes[rows], beside, background[rows])
        if settings.noise > 0:
            part = add_noise(part, sizes[rows], noise[rows], seeds[rows])
        out[rows, : part.shape[1]] = part
    return batch.replace(wave=out, lengths=sizes, **_left_to_encoder(seeds, settings))


def _slices(lengths: Tensor, most: int, widest: int) -> Iterator[tuple[Tensor | slice, int]]:
    """(rows, length of the longest): all rows at once on an accelerator; on a CPU, slices of similar length that fit
    into cache.

    Args:
        most: upper bound of the lengths. widest: samples of an output row.
    """
    if lengths.device.type != "cpu" or len(lengths) == 0:
        yield slice(None), most
        return
    for rows in lengths.argsort().split(max(1, IN_CACHE // widest)):
        yield rows, int(lengths[rows[-1]])


def _window(seeds: Tensor, lengths: Tensor, settings: Augment, longest: int | None) -> tuple[Tensor, Tensor]:
    """Size and start, [B] each, of the part of each row that is kept."""
    low, high = settings.crop
    fraction, place = seeded.uniform(seeds, 2, stream=Stream.WINDOW).double().unbind(1)
    size = lengths if longest is None else lengths.clamp(max=longest)
    size = (size * (low + (high - low) * fraction)).round().long().clamp(min=1)
    return size, (place * (lengths - size + 1)).long()


def _shift(seeds: Tensor, size: Tensor, settings: Augment) -> Tensor:
    """[B] samples by which each row is delayed."""
    most = (size * settings.shift).long()
    return (seeded.uniform(seeds, 1, stream=Stream.SHIFT).double()[:, 0] * (2 * most + 1)).long() - most


def _factor(seeds: Tensor, settings: Augment) -> Tensor:
    """[B] float32 factor of each row: gain and polarity."""
    low, high = settings.gain_db
    decibels = low + (high - low) * seeded.uniform(seeds, 1, stream=Stream.GAIN)[:, 0]
    flipped = seeded.uniform(seeds, 1, stream=Stream.POLARITY)[:, 0] < settings.polarity
    return torch.where(flipped, -1.0, 1.0) * 10 ** (decibels / 20)


def _ratio(seeds: Tensor, probability: float, snr_db: tuple[float, float], stream: Stream) -> Tensor:
    """[B] float32 amplitude of what is added, relative to the row's own; 0: nothing is added."""
    chance, level = seeded.uniform(seeds, 2, stream=stream).unbind(1)
    low, high = snr_db
    return (chance < probability) * 10 ** (-(low + (high - low) * level) / 20)


def _background(seeds: Tensor, settings: Augment, noises: Sounds | None) -> tuple[Tensor, Tensor, Tensor]:
    """[B] each: the noise or row to mix in, where to begin in it, in [0, 1), and amplitude relative to the row's."""
    ratio = _ratio(seeds, settings.background, settings.background_snr_db, Stream.BACKGROUND)
    which, place = seeded.uniform(seeds, 4, stream=Stream.BACKGROUND)[:, 2:].unbind(1)
    return partners(which) if noises is None else (which * len(noises.lengths)).long(), place, ratio


def _tempos(seeds: Tensor, settings: Augment) -> Tensor:
    """[B] int64 factors of the tempo, in fortieths; STEPS: unchanged."""
    if settings.stretch == 0:
        return torch.full_like(seeds, STEPS)
    chance, place = seeded.uniform(seeds, 2, stream=Stream.STRETCH).unbind(1)
    return drawn(place, *settings.tempo).where(chance < settings.stretch, STEPS)


def _longest(samples: int, settings: Augment) -> int:
    """Length of a row of `samples` at the lowest speed and tempo."""
    tempo = min(1.0, settings.tempo[0]) if settings.stretch > 0 else 1.0
    for factor in (settings.speed[0], tempo):
        samples = -(-samples * STEPS // round(factor * STEPS))
    return samples


def moved(wave: Tensor, widest: int, size: Tensor, start: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
    """Crop, shift and gain in one gather: new[j] = factor * wave[start + j - shift] inside of the crop, 0 outside.

    Args:
        wave: [B, T]. size, start, shift, factor: [B].

    Returns:
        [B, widest].
    """
    at = torch.arange(widest, device=wave.device)
    from_ = at - shift[:, None]
    inside = (from_ >= 0) & (from_ < size[:, None]) & (at < size[:, None])
    return wave.gather(1, (start[:, None] + from_).clamp_(0, wave.shape[1] - 1)) * inside * factor[:, None]


def moved_by_row(wave: Tensor, widest: int, size: Tensor, start: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
    """The same as `moved`, a row at a time: on a CPU, copying slices is far faster than a gather."""
    out = wave.new_zeros(len(wave), widest)
    numbers = zip(size.tolist(), start.tolist(), shift.tolist(), factor.tolist(), strict=True)
    for row, (count, first, by, gain) in enumerate(numbers):
        low, high = max(by, 0), min(count, count + by)
        if low < high:
            torch.mul(wave[row, first + low - by : first + high - by], gain, out=out[row, low:high])
    return out


def with_noise(wave: Tensor, lengths: Tensor, ratio: Tensor, seeds: Tensor) -> Tensor:
    """Add white Gaussian noise at `ratio` times the row's own amplitude over its valid length; 0: none is drawn.

    A `ratio` on the CPU avoids synchronising with a GPU.
    """
    some = ratio.nonzero()[:, 0]
    rows, ratio = (x.to(wave.device, non_blocking=True) for x in (some, ratio[some]))
    scale = rms(wave[rows], lengths[rows]) * ratio
    noise = seeded.noise(seeds[rows], wave.shape[1], stream=Stream.SAMPLES).mul_(scale[:, None])
    return wave.index_add(0, rows, noise.mul_(within(lengths[rows], wave.shape[1])))


def with_noise_by_row(wave: Tensor, lengths: Tensor, ratio: Tensor, seeds: Tensor) -> Tensor:
    """The same as `with_noise`, in place and a row at a time: on a CPU, one pass over a row instead of many."""
    rows = ratio.nonzero()[:, 0]
    noise = seeded.noise(seeds[rows], wave.shape[1], stream=Stream.SAMPLES)
    for row, drawn_for_it in zip(rows.tolist(), noise, strict=True):
        count = int(lengths[row])
        sound = wave[row, :count]
        scale = float(torch.linalg.vector_norm(sound)) / count**0.5 * float(ratio[row])
        sound.add_(drawn_for_it[:count], alpha=scale)
    return wave


def _colors(seeds: Tensor, settings: Augment) -> Tensor | None:
    """[B, KNOTS] gains in dB of the random filter at its knots; None: there is no filter."""
    if settings.color_db == 0:
        return None
    return (2 * seeded.uniform(seeds, KNOTS, stream=Stream.COLOR) - 1) * settings.color_db


def _left_to_encoder(seeds: Tensor, settings: Augment) -> dict[str, Tensor]:
    """The masks and warps that `settings` ask for, by name; the encoder applies them to the spectrogram."""
    drawn_here = {}
    if settings.time_masks and settings.time_mask_max > 0:
        drawn_here["time_masks"] = _masks(seeds, settings.time_masks, settings.time_mask_max, Stream.TIME)
    if settings.freq_masks and settings.freq_mask_max > 0:
        drawn_here["freq_masks"] = _masks(seeds, settings.freq_masks, settings.freq_mask_max, Stream.FREQ)
    if settings.warp != (1.0, 1.0):
        low, high = settings.warp
        drawn_here["warp"] = low * (high / low) ** seeded.uniform(seeds, 1, stream=Stream.WARP)[:, 0]
    if settings.time_warp > 0:
        drawn_here["time_warp"] = _time_warp(seeds, settings.time_warp)
    return drawn_here


def _masks(seeds: Tensor, count: int, most: float, stream: Stream) -> Tensor:
    """[B, count, 2] start and width in [0, 1]: width uniform in [0, most), start uniform in [0, 1 - width)."""
    width, place = seeded.uniform(seeds, 2 * count, stream=stream).unflatten(1, (count, 2)).unbind(2)
    width = width * most
    return torch.stack([place * (1 - width), width], 2)


def _time_warp(seeds: Tensor, most: float) -> Tensor:
    """[B, 2] fractions of the clip: a point, uniform in [most, 1 - most), and its new place, at most `most` away."""
    place, move = seeded.uniform(seeds, 2, stream=Stream.TIME_WARP).unbind(1)
    point = most + (1 - 2 * most) * place
    to = (point + most * (2 * move - 1)).clamp(1e-3, 1 - 1e-3)  # the ends stay
    return torch.stack([point, to], 1)
