"""Settings of the modality audio: `Audio`. Methods import the libraries that they need."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from multicl.modalities import checks
from multicl.modalities.audio.changes import STRONG, WEAK, Augment, require, require_whole
from multicl.types import Batch, Half, Kind, Suggestion

if TYPE_CHECKING:
    import random

    from torch import Tensor, nn

    EncoderLike = str | nn.Module
else:
    EncoderLike = str  # all that a command line can name; an nn.Module comes from Python


@dataclass(frozen=True)
class Audio:
    """Sound as a modality: waveforms in the batch, spectrograms in the encoder.

    A batch holds "wave" float32 [B, T], zero beyond "lengths" int64 [B]; views add "time_masks" and "freq_masks",
    float32 [B, n, 2]: start and width as fractions of the clip and of the bands; "warp", float32 [B]: a factor; and
    "time_warp", float32 [B, 2]: a point of the clip and where it goes, as fractions.

    Raises:
        InputError: a setting out of its range.
    """

    encoder: EncoderLike = "small"
    """"small" (0.55 M parameters, keeps order in time; on log-mels or, with `input` "wave", on the waveform); the name
    or folder of a Hugging Face audio model (wav2vec2, HuBERT, AST, Whisper, CLAP and others built like them); or an
    `nn.Module` of your own, called with what `input` names, that returns [B, W] or [B, W, ...] (averaged)."""
    _: KW_ONLY
    column: str | None = None
    """Column of the data that holds the sounds; None: the one named like the node."""
    tower: str | None = None
    """Name of the tower; nodes with the same tower share its weights. None: the node's name."""
    rate: int = 16000
    """Sampling rate of the waveform in the batch, in Hz; sounds of other rates are resampled."""
    seconds: float | None = None
    """Length of the random crop that a training view takes; None: the whole clip."""
    max_seconds: float = 30.0
    """Seconds that are heard of a longer sound: in training a random window of this length; in evaluation, search and
    `embed` the beginning, or more of it if `windows` is above 1."""
    windows: int = 1
    """In evaluation, search and `embed`, up to this many times `max_seconds` of a longer sound are heard, in windows
    that are embedded separately and averaged; the rest is ignored."""
    channel: Literal["mean", "left", "right"] = "mean"
    """What is used of a sound with several channels: their mean, or only the first or second channel of a stereo sound.
    A mono sound is used as it is."""
    trim_db: float | None = None
    """Trims the beginning and the end while their loudest band is more than this many dB below the sound's loudest;
    None: no trimming. Encoders that keep order in time then see aligned sounds, however the recordings were cut."""
    mels: int = 64
    """Mel bands of the log-mel front end ("small" and modules of your own)."""
    window_ms: float = 25.0
    """Length of a frame of the front end in milliseconds."""
    hop_ms: float = 10.0
    """Milliseconds from one frame to the next."""
    center: Literal["clip", "band"] = "clip"
    """What has mean 0 in log-mels: the clip, or each of its bands, which removes the constant coloration by microphone,
    room and voice (cepstral mean normalisation)."""
    root: float | None = None
    """Instead of the logarithm, power relative to the clip's maximum is raised to this exponent, in (0, 1], so that
    noise far below the sound counts less; None: the logarithm."""
    input: Literal["mel", "wave"] = "mel"
    """What "small" or a module of your own gets: log-mels [B, mels, frames] or the waveform [B, T], both float32."""
    pooling: Literal["linear", "segments"] = "linear"
    """What "small" gives: the means over 8 equal parts of the clip, 8 times 128 numbers ("segments"), or 256 numbers
    from a last linear layer on them ("linear"). That layer specialises most in telling clips apart, which suits probes
    less."""
    parts: Literal["time", "change"] = "time"
    """What is equal in these 8 parts: their length, or how much the spectrum changes within them, so that long and
    short vowels and pauses weigh the same (trace segmentation, Kuhn and Tomaschewski 1983)."""
    stride: int = 4
    """Frames of the spectrogram (of `hop_ms`) per frame of "small", 1 to 16; 2 resolves short sounds better."""
    depth: int = 3
    """Number of residual convolutions of "small", 0 to 32: three see 0.5 s around each frame, one 0.2 s. Fewer stay
    closer to the spectrogram, which suits small data sets."""
    pretrained: bool = True
    """Load the weights of a Hugging Face model; False: its architecture with random weights."""
    lora: int = 0
    """Rank of LoRA's updates (arXiv:2106.09685) to all linear layers of a Hugging Face model: only these and the heads
    are trained; 0: all weights are. Needs peft; an export merges them into the weights."""
    strong: Augment = field(default=STRONG)
    weak: Augment = field(default=WEAK)
    noises: str | None = None
    """Folder of recorded noises (WAV, FLAC, OGG, MP3, in subfolders too) that views use as backgrounds, as often and
    as loud as `background` and `background_snr_db` say; None: other rows are the backgrounds. Up to ten minutes of them
    are kept in memory. Only training needs the folder; it reads it at the start."""

    projection: ClassVar[str] = "audio_projection"
    """Name of the layer after the audio half in a two-tower model of transformers."""

    def __post_init__(self) -> None:
        checks.check_common("audio", self.encoder, self.lora, '"small", a Hugging Face name or folder (as a string)')
        require(1000 <= self.rate <= 768_000, "rate", self.rate, "a sampling rate in Hz, 1000 to 768000")
        require(0 < self.max_seconds <= 3600, "max_seconds", self.max_seconds, "in (0, 3600]")
        if self.seconds is not None:
            require(0 < self.seconds <= self.max_seconds, "seconds", self.seconds, "positive and at most max_seconds")
        if self.trim_db is not None:
            require(0 < self.trim_db <= 200, "trim_db", self.trim_db, "in (0, 200] dB")
        for name, least, most in (("mels", 1, 512), ("windows", 1, 1000), ("stride", 1, 16), ("depth", 0, 32)):
            require_whole(name, getattr(self, name), least, most)
        require(1 <= self.window_ms <= 1000, "window_ms", self.window_ms, "in 1 to 1000")
        require(1 <= self.hop_ms <= self.window_ms, "hop_ms", self.hop_ms, "at least 1 and at most window_ms")
        require(self.channel in ("mean", "left", "right"), "channel", self.channel, '"mean", "left" or "right"')
        require(self.center in ("clip", "band"), "center", self.center, '"clip" or "band"')
        require(self.pooling in ("linear", "segments"), "pooling", self.pooling, '"linear" or "segments"')
        require(self.root is None or 0 < self.root <= 1, "root", self.root, "in (0, 1], or none: the logarithm")
        require(self.parts in ("time", "change"), "parts", self.parts, '"time" or "change"')
        for name in ("strong", "weak"):
            require(isinstance(getattr(self, name), Augment), name, getattr(self, name), "an Augment(...)")
        require(self.input in ("mel", "wave"), "input", self.input, '"mel" or "wave"')
        if self.noises is not None:
            require(self.noises != "", "noises", self.noises, "a folder")
            mixes = max(self.strong.background, self.weak.background) > 0
            require(mixes, "noises", self.noises, "given with strong.background or weak.background above 0")

    @property
    def tuned(self) -> bool:
        """Whether pretrained weights are fine-tuned in full."""
        return checks.tuned(self)

    @property
    def files(self) -> bool:
        """Whether a string cell is a file's path: it is."""
        return True

    @property
    def source(self) -> Hashable:
        """The settings that decide load, collate and view."""
        return (
            "audio", self.rate, self.channel, self.seconds, self.max_seconds, self.windows, self.trim_db, self.strong,
            self.weak, self.noises,
        )  # fmt: skip

    def load(self, raw: Any, rng: random.Random | None = None) -> Tensor:
        """One cell -> mono waveform, float32 [T] at `rate`, at most `max_seconds` long, trimmed as `trim_db` says.

        Args:
            raw: encoded bytes (WAV, FLAC, OGG Vorbis or Opus, MP3 and others of libsndfile's), a path, a dict with
                "bytes" or "path", a dict with "array" and "sampling_rate", or a pair (array, rate). Arrays are [T],
                [T, C] or [C, T] (the shorter side is the channels); integers are scaled to [-1, 1).
            rng: draws the window to read from a longer sound; None: its beginning, `windows` times as long.

        Raises:
            BadSample: not a sound, corrupt, empty, or with values that are not finite.
        """
        from multicl.modalities.audio import decode

        wave, rate = decode.read(raw, self.max_seconds * (self.windows if rng is None else 1), rng, self.channel)
        sound = decode.resample(wave, rate, self.rate)
        if self.trim_db is None:
            return sound
        from multicl.modalities.audio.silence import trimmed

        return trimmed(sound, self.rate, self.trim_db)

    def single(self, values: Any) -> bool:
        """Whether these are one sound: a path, bytes, a dict or a pair (array, rate)."""
        from multicl.modalities.audio import decode

        return decode.is_single(values)

    def collate(self, samples: Sequence[Tensor]) -> Batch:
        """Waveforms [T_i] -> Batch of "wave" float32 [B, T], zero beyond "lengths" int64 [B]."""
        import torch

        lengths = torch.tensor([len(sample) for sample in samples])
        wave = torch.nn.utils.rnn.pad_sequence(list(samples), batch_first=True)
        return Batch({"wave": wave, "lengths": lengths}, padded=("wave",))

    def view(self, batch: Batch, seeds: Tensor | None, kind: Kind = "strong") -> Batch:
        """One random view; seeds None: the batch as it is. `noises` are read once per process.

        Changes come in this order: crop, shift, gain and polarity, speed, stretch, color, background, noise. The
        encoder applies warps and masks.

        Raises:
            InputError: the folder `noises` does not exist or holds no sound that can be read.
        """
        if seeds is None:
            return batch
        import torch

        from multicl.modalities.audio.augment import augment

        settings = self.weak if kind == "weak" else self.strong
        longest = None if self.seconds is None else max(1, round(self.seconds * self.rate))
        noises = None
        if self.noises is not None and settings.background > 0:
            from multicl.modalities.audio.noises import read

            noises = read(self.noises, self.rate, self.channel, batch.device)
        with torch.autocast(batch.device.type, enabled=False):  # sounds stay float32, whatever the encoder runs in
            return augment(batch, seeds, settings, self.rate, longest, noises)

    def build(self, weights: bool = True) -> nn.Module:
        """The Encoder: Batch -> [B, width]. With `weights`, as for training, `noises` are read, too.

        Raises:
            InputError: an unknown encoder, or one that needs another `rate`; the folder `noises` does not exist or
                holds no sound that can be read.
        """
        if weights and self.noises is not None:
            import torch

            from multicl.modalities.audio.noises import read

            read(self.noises, self.rate, self.channel, torch.device("cpu"))  # so that errors come early
        from multicl.modalities.audio import encoders

        encoder = encoders.build(self, weights and self.pretrained)
        if self.windows == 1:
            return encoder
        from multicl.modalities.audio.windows import by_windows

        return by_windows(encoder, max(1, round(self.max_seconds * self.rate)))

    def save(self, folder: Path) -> None:
        """Write the configuration of a Hugging Face model and of its feature extractor; nothing for other encoders."""
        if isinstance(self.encoder, str) and self.encoder != "small":
            from multicl.modalities.audio import pretrained

            pretrained.save(self.encoder, folder)

    def restored(self, folder: Path) -> Audio:
        """These settings after loading: a Hugging Face model is built from what `save` wrote to `folder`.

        Raises:
            InputError: the encoder was a module of the user's own, which a folder cannot hold.
        """
        if not isinstance(self.encoder, str):
            raise checks.not_saved("audio", self.encoder)
        if self.encoder == "small":
            return self
        return dataclasses.replace(self, encoder=str(folder), pretrained=False)

    def forms(self, encoder: nn.Module) -> tuple[str, ...]:
        """The forms of `export` that can hold this encoder."""
        from multicl.modalities.audio import export

        return export.forms(encoder)

    def export(self, encoder: nn.Module, head: nn.Module | None, folder: Path, form: str) -> str:
        """Write a trained encoder for transformers; returns how to use it, as Markdown.

        Args:
            head: must be None: transformers has no place for one. form: "transformers".

        Raises:
            InputError: a head is given.
        """
        from multicl.modalities.audio import export

        return export.write(self, encoder, head, folder, form)

    def half(self, encoder: nn.Module) -> Half:
        """A trained encoder as the audio half of CLAP; see `multicl.types.Half`.

        Raises:
            InputError: it is not such a half.
        """
        from multicl.modalities.audio import export

        return export.half(self, encoder)

    def suggest(self, cells: Sequence[Any], accelerator: bool, pretrained: bool) -> Suggestion:
        """Settings for cells like these; see `multicl.types.Suggests`."""
        from multicl.modalities.audio.suggest import suggest

        return suggest(cells, accelerator, pretrained)

    def preview(self, raw: Any) -> tuple[str, bytes]:
        """One cell for a page: (MIME type, bytes) that browsers play; a large or other sound as 10 s of Ogg Vorbis.

        Raises:
            BadSample: as `load`.
        """
        from multicl.modalities.audio import decode

        return decode.preview(raw, self.channel)

    def show(self, batch: Batch) -> list[tuple[str, bytes]]:
        """Each row of a batch or a view of it for a page: Ogg Vorbis, with masked spans of time silent.

        Masked frequency bands stay audible: the encoder masks them in the spectrogram.
        """
        from multicl.modalities.audio import decode
        from multicl.modalities.audio.mel import covered

        wave, lengths = batch.get("wave").cpu(), batch.get("lengths").cpu()
        if "time_masks" in batch:
            wave = wave.masked_fill(covered(batch.get("time_masks").cpu(), lengths, wave.shape[1]), 0)
        return [decode.to_ogg(row[:n].clamp(-1, 1).numpy(), self.rate) for row, n in zip(wave, lengths, strict=True)]
