"""Anything that holds a sound -> mono float32. soundfile (libsndfile) decodes it: no system FFmpeg is needed."""

from __future__ import annotations

import functools
import io
import os
import random
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import soundfile
import torch
from torchaudio.transforms import Resample

from multicl.modalities.paths import refuse_long
from multicl.types import BadSample

if TYPE_CHECKING:
    from torch import Tensor

RATES = range(1000, 768_001)
"""Sampling rates in Hz."""
FORMS = 'bytes, a path, {"bytes", "path"}, {"array", "sampling_rate"} or (array, rate)'
MP3_SLACK = 4608  # an MP3's length is counted in frames of 1152 samples, and decoders differ at the ends
PLAYABLE = {"FLAC": "audio/flac", "OGG": "audio/ogg", "MP3": "audio/mpeg", "WAV": "audio/wav"}
PLAYABLE_PCM = {"PCM_U8", "PCM_16", "PCM_24"}
PREVIEW_BYTES = 200_000
PREVIEW_SECONDS = 10.0


def read(raw: Any, max_seconds: float, rng: random.Random | None, channel: str = "mean") -> tuple[np.ndarray, int]:
    """One cell -> (mono float32 [T], its rate in Hz). Of a sound longer than `max_seconds`, only a window is read.

    Truncation is not detected in formats that do not state their length (Ogg, cut between two pages).

    Raises:
        BadSample: see `Audio.load`.
    """
    if isinstance(raw, dict):
        if raw.get("array") is not None:
            raw = (raw["array"], raw.get("sampling_rate"))
        else:
            raw = raw["bytes"] if raw.get("bytes") is not None else raw.get("path")
    if isinstance(raw, tuple) and len(raw) == 2:
        wave, rate = _array(*raw, channel)
        start, count = _window(len(wave), rate, max_seconds, rng)
        wave = wave[start : start + count]
    elif isinstance(raw, bytes | bytearray | memoryview):
        wave, rate = _decode(io.BytesIO(raw), max_seconds, rng, channel)
    elif isinstance(raw, str | os.PathLike):
        path = Path(raw)
        refuse_long(raw)
        try:
            with path.open("rb") as file:
                wave, rate = _decode(file, max_seconds, rng, channel)
        except OSError as error:
            raise BadSample(f"cannot open the sound file {str(path)!r}: {error.strerror}") from error
        except BadSample as error:
            raise BadSample(f"{str(path)!r}: {error}") from error
    elif isinstance(raw, list) and any(isinstance(part, str | bytes | dict) for part in raw):
        raise BadSample(f"a list of {len(raw)} files; a cell holds one sound")
    elif isinstance(raw, np.ndarray | torch.Tensor | list):
        raise BadSample("an array of samples without its rate; give (array, rate) or {'array', 'sampling_rate'}")
    else:
        raise BadSample(f"not a sound: {type(raw).__name__}; expected {FORMS}")
    if not np.isfinite(wave).all():
        raise BadSample("the sound has values that are not finite (NaN or infinity)")
    return wave, rate


def is_single(values: Any) -> bool:
    """Whether these are one sound rather than several."""
    if isinstance(values, np.ndarray | torch.Tensor):
        return values.ndim == 1 and getattr(values.dtype, "kind", "f") in "iuf"  # a waveform that lacks its rate
    if isinstance(values, tuple):
        return len(values) == 2 and any(isinstance(v, int | float) or getattr(v, "ndim", 1) == 0 for v in values)
    if hasattr(values, "read"):  # an open file, which would be iterated over by lines
        return True
    return isinstance(values, str | os.PathLike | bytes | bytearray | memoryview | dict)


def resample(wave: np.ndarray, rate: int, wanted: int) -> Tensor:
    """float32 [T] at `rate` -> float32 tensor [ceil(T * wanted / rate)] at `wanted`, band-limited (windowed sinc)."""
    tensor = torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float32))
    if rate == wanted:
        return tensor
    resampled: Tensor = _resampler(rate, wanted)(tensor)
    return resampled


def preview(raw: Any, channel: str = "mean") -> tuple[str, bytes]:
    """See `Audio.preview`."""
    if isinstance(raw, dict) and raw.get("bytes") is not None:
        raw = raw["bytes"]
    wave, rate = read(raw, PREVIEW_SECONDS, None, channel)
    if isinstance(raw, bytes | bytearray | memoryview) and len(raw) <= PREVIEW_BYTES:
        info = soundfile.info(io.BytesIO(raw))
        if info.format in PLAYABLE and (info.format != "WAV" or info.subtype in PLAYABLE_PCM):
            return PLAYABLE[info.format], bytes(raw)
    return to_ogg(wave, rate)


def to_ogg(wave: np.ndarray, rate: int) -> tuple[str, bytes]:
    """float [T] in [-1, 1] -> (MIME type, bytes) of Ogg Vorbis, at a rate that browsers play."""
    if not 8000 <= rate <= 48000:
        wanted = min(max(rate, 8000), 48000)
        wave, rate = resample(wave, rate, wanted).numpy(), wanted
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", samplerate=rate, channels=1, format="OGG", subtype="VORBIS") as file:
        for start in range(0, len(wave), rate):  # libsndfile's Vorbis encoder puts each write on the stack
            file.write(wave[start : start + rate])
    return PLAYABLE["OGG"], out.getvalue()


def _array(array: Any, rate: Any, channel: str) -> tuple[np.ndarray, int]:
    """Check the rate and convert [T], [T, C] or [C, T] of any real type -> (mono float32 [T], rate)."""
    if isinstance(rate, np.ndarray | torch.Tensor) and rate.ndim == 0:
        rate = rate.item()
    if isinstance(rate, np.ndarray | torch.Tensor | list | tuple):
        raise BadSample("an array where its sampling rate is expected; the order is (array, rate), not (rate, array)")
    _check_rate(rate)
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu().float().numpy() if array.is_floating_point() else array.cpu().numpy()
    try:
        array = np.asarray(array)
    except ValueError as error:  # a ragged list
        raise BadSample(f"an array that is not a waveform: {error}") from error
    if array.dtype.kind not in "iuf":
        raise BadSample(f"an array of {array.dtype}; a waveform holds floats or integers")
    if array.ndim not in (1, 2) or array.size == 0:
        raise BadSample(f"an array of shape {list(array.shape)}; expected [T], [T, C] or [C, T], not empty")
    if array.dtype.kind in "iu" and array.itemsize == 8:  # lists and tables hold integers of any size so
        array = _narrow(array)
    if array.dtype.kind == "u":
        half = 2.0 ** (8 * array.itemsize - 1)
        array = array.astype(np.float64) / half - 1
    elif array.dtype.kind == "i":
        array = array / 2.0 ** (8 * array.itemsize - 1)
    if array.ndim == 2:
        array = _mixed(array.T if array.shape[0] <= array.shape[1] else array, channel)
    return array.astype(np.float32), int(rate)


def _narrow(array: np.ndarray) -> np.ndarray:
    """64-bit integers cast to the 16 or 32 bits that the samples had, judged by their range."""
    least, most = int(array.min()), int(array.max())
    for kind in (np.int16, np.int32):
        if np.iinfo(kind).min <= least and most <= np.iinfo(kind).max:
            return array.astype(kind)
    raise BadSample(f"samples from {least} to {most}; integers must fit in 16 or 32 bits")


def _decode(file: BinaryIO, max_seconds: float, rng: random.Random | None, channel: str) -> tuple[np.ndarray, int]:
    _check_riff(file)
    try:
        with soundfile.SoundFile(file) as sound:
            rate, frames = sound.samplerate, sound.frames
            if frames <= 0:
                raise BadSample("a sound without samples")
            _check_rate(rate)
            start, count = _window(frames, rate, max_seconds, rng)
            if start:
                sound.seek(start)
            samples = sound.read(count, dtype="float32", always_2d=True)  # [T, C]
            slack = MP3_SLACK if sound.format == "MP3" else 0
    except BadSample:
        raise
    except (RuntimeError, ValueError, MemoryError) as error:  # libsndfile's are RuntimeErrors
        reason = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
        way_out = "; ffmpeg converts most sounds to .flac" if "Format not recognised" in reason else ""
        raise BadSample(f"not a readable sound: {reason.rstrip('.')}{way_out}") from error
    if len(samples) == 0 or len(samples) < count - slack:
        raise BadSample(f"truncated: {len(samples)} of {count} samples could be read")
    return _mixed(samples, channel), rate


def _mixed(samples: np.ndarray, channel: str) -> np.ndarray:
    """[T, C] -> [T], the requested channel.

    Raises:
        BadSample: "left" or "right" of a sound of more than two channels.
    """
    count = samples.shape[1]
    if channel == "mean" and count > 1:
        mean: np.ndarray = samples.mean(axis=1)
        return mean
    if count > 2:
        raise BadSample(f"a sound of {count} channels has no {channel} one: more than two have only channel='mean'")
    side: np.ndarray = samples[:, 1 if channel == "right" and count == 2 else 0]
    return side


def _check_rate(rate: Any) -> None:
    if not isinstance(rate, int | float | np.integer | np.floating) or not RATES[0] <= rate <= RATES[-1]:
        raise BadSample(f"sampling rate {rate!r}; expected {RATES[0]} to {RATES[-1]} Hz")


def _check_riff(file: BinaryIO) -> None:
    """Compare a WAV's size with its header: libsndfile would read a truncated file as a shorter sound."""
    head = file.read(8)
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if size == 0:
        raise BadSample("empty: no bytes")
    if head[:4] == b"RIFF":
        stated = int.from_bytes(head[4:8], "little")
        if size < stated + 8 < 0x7FFFFF00:  # writers to a pipe state larger sizes
            raise BadSample(f"truncated: {size} of {stated + 8} bytes")


def _window(length: int, rate: int, max_seconds: float, rng: random.Random | None) -> tuple[int, int]:
    """(start, count) of the samples to read."""
    count = min(length, max(1, round(max_seconds * rate)))
    start = rng.randrange(length - count + 1) if rng is not None and count < length else 0
    return start, count


@functools.lru_cache(maxsize=16)
def _resampler(rate: int, wanted: int) -> Resample:
    """Filters for a ratio, rounded (within 0.05 %) to a denominator up to 1000: 44101 / 16000 would take gigabytes."""
    ratio = Fraction(rate, wanted).limit_denominator(1000)
    return Resample(ratio.numerator, ratio.denominator)
