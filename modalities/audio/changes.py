"""Settings of the random changes of a sound: `Augment`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from multicl.modalities import checks

require = partial(checks.require, "audio")
"""Check one setting of `Audio` or `Augment`: (holds, name, value, wanted)."""


def require_whole(name: str, value: object, least: int, most: int) -> None:
    """Check that a setting is a whole number within these bounds; InputError as from `require`."""
    holds = isinstance(value, int) and least <= value <= most
    require(holds, name, value, f"a whole number, {least} to {most}")


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random changes of a sound; every sample draws its own. The defaults change nothing.

    Time warps and time and frequency masks are those of SpecAugment (arXiv:1904.08779, section 2). They are drawn with
    the view and applied by the encoder, which computes the spectrogram. In a model that reads waveforms, time masks
    silence parts of the waveform, and frequency masks have no effect.

    Raises:
        InputError: a setting out of its range.
    """

    crop: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest fraction of the clip that is kept, in (0, 1]; its start is uniform."""
    gain_db: tuple[float, float] = (0.0, 0.0)
    """Range of the gain in dB."""
    noise_snr_db: tuple[float, float] = (10.0, 40.0)
    """Range of the signal-to-noise ratio in dB; the power of the signal is the row's own, over its valid length."""
    noise: float = 0.0
    """Probability of added white Gaussian noise."""
    polarity: float = 0.0
    """Probability of a flipped sign."""
    speed: tuple[float, float] = (1.0, 1.0)
    """Range of the playback speed, within [0.25, 4], in steps of 1/40: pitch, formants and tempo change together."""
    stretch: float = 0.0
    """Probability of a time stretch, another tempo at the same pitch, by a phase vocoder (Flanagan and Golden 1966,
    Dolson 1986) like torchaudio's `TimeStretch`."""
    tempo: tuple[float, float] = (0.8, 1.25)
    """Range of that tempo, within [0.5, 2], in steps of 1/40: 1.25 shortens a sound by a fifth."""
    warp: tuple[float, float] = (1.0, 1.0)
    """Range of the factor, within [0.5, 2], by which the frequencies of mel bands are multiplied, as by a longer or
    shorter vocal tract (vocal tract length perturbation, Jaitly and Hinton 2013). Pitch changes too, tempo does not.
    The encoder applies it, like the masks."""
    time_warp: float = 0.0
    """Greatest shift, in either direction, of a random point of the spectrogram's time axis, as a fraction of the clip
    in [0, 0.5). The parts before and after it are stretched or squeezed; the clip keeps its length. Applied by the
    encoders that apply `warp`: "small" and modules of your own, on log-mels."""
    color_db: float = 0.0
    """Greatest gain or attenuation by a random smooth filter, in [0, 100] dB, which imitates another microphone, room
    or voice (FilterAugment, arXiv:2110.03282)."""
    background: float = 0.0
    """Probability of a background: a noise from `Audio.noises` or, without noises, another row of the batch (or of the
    chunk that is embedded at once)."""
    background_snr_db: tuple[float, float] = (5.0, 20.0)
    """Range of the ratio of the row's power to the background's in dB, over the row's valid length."""
    shift: float = 0.0
    """Greatest shift in time, in either direction, as a fraction of the clip in [0, 1); the gap it leaves is silent."""
    time_masks: int = 0
    """Number of masked spans of time."""
    time_mask_max: float = 0.2
    """Greatest width of each, as a fraction of the clip."""
    freq_masks: int = 0
    """Number of masked bands of frequency."""
    freq_mask_max: float = 0.25
    """Greatest width of each, as a fraction of the mel bands."""

    def __post_init__(self) -> None:
        low, high = self.crop
        require(0 < low <= high <= 1, "crop", self.crop, "two fractions 0 < low <= high <= 1")
        low, high = self.speed
        require(0.25 <= low <= high <= 4, "speed", self.speed, "two factors, 0.25 <= low <= high <= 4")
        low, high = self.tempo
        require(0.5 <= low <= high <= 2, "tempo", self.tempo, "two factors, 0.5 <= low <= high <= 2")
        low, high = self.warp
        require(0.5 <= low <= high <= 2, "warp", self.warp, "two factors, 0.5 <= low <= high <= 2")
        for name in ("gain_db", "noise_snr_db", "background_snr_db"):
            low, high = getattr(self, name)
            require(-100 <= low <= high <= 100, name, (low, high), "two values in dB, -100 <= low <= high <= 100")
        for name in ("noise", "background", "polarity", "stretch", "time_mask_max", "freq_mask_max"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "in [0, 1]")
        require(0 <= self.color_db <= 100, "color_db", self.color_db, "in [0, 100] dB")
        require(0 <= self.shift < 1, "shift", self.shift, "in [0, 1)")
        require(0 <= self.time_warp < 0.5, "time_warp", self.time_warp, "in [0, 0.5)")
        for name in ("time_masks", "freq_masks"):
            require_whole(name, getattr(self, name), 0, 100)


STRONG = Augment(crop=(0.7, 1.0), gain_db=(-6.0, 6.0), noise=0.5, time_masks=2, freq_masks=2)
WEAK = Augment(gain_db=(-3.0, 3.0))
