"""Hugging Face audio models as encoders: those that read waveforms, and those that read their own spectrograms.

What a model is follows from its configuration and its feature extractor, never from its name.
"""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import (
    ASTFeatureExtractor,
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    PreTrainedConfig,
    PreTrainedModel,
    SequenceFeatureExtractor,
    Wav2Vec2FeatureExtractor,
)

from multicl.modalities import pretrained
from multicl.modalities.audio.mel import covered, within
from multicl.types import InputError

if TYPE_CHECKING:
    from multicl.types import Batch

log = logging.getLogger(__name__)

LAYERDROPS = ("layerdrop", "encoder_layerdrop", "decoder_layerdrop")
MASKS = ("mask_time_prob", "mask_feature_prob")
"""SpecAugment inside the models, which draws for the batch as a whole: here views mask, from the rows' own seeds."""
PADDING = 1e-4
"""Share of its norm by which a vector may differ for padding: rounding, and no more."""
SHORTEST = 0.05  # seconds a feature extractor is given at least; kaldi's refuses less than its window of 25 ms


def build(name: str, rate: int, max_seconds: float, weights: bool) -> nn.Module:
    """The encoder of a name on the hub or of a folder; without weights nothing but configurations is read.

    Raises:
        InputError: no such model, not an audio model, or one of another rate.
    """
    config, extractor = describe(name)
    _set_config(config, name)
    if extractor.sampling_rate != rate:
        wanted = extractor.sampling_rate
        raise InputError(
            f"the audio encoder {name!r} hears {wanted} Hz and this run's sound is at {rate} Hz; "
            f"set --audio.rate {wanted}"
        )
    # float32: checkpoints in half precision would otherwise be trained in it
    try:
        if weights:
            model, absent = pretrained.load(name, config=config)
        else:
            model, absent = AutoModel.from_config(config, dtype=torch.float32), set()  # type: ignore[no-untyped-call]
    except (OSError, ValueError, RuntimeError) as error:
        raise _unusable(name, error) from error
    tower = _audio_tower(model)
    pretrained.warn_of_absent(name, tower, absent)
    if isinstance(extractor, Wav2Vec2FeatureExtractor):
        if not (hasattr(tower, "feature_extractor") and hasattr(tower.config, "conv_kernel")):
            raise _unusable(name, TypeError(f"{type(tower).__name__} is not built as wav2vec2 is"))
        return WaveModel(tower, extractor.do_normalize)
    heard = heard_seconds(extractor)
    if heard is not None and heard < max_seconds:
        log.warning(
            "%s hears the first %g s of a sound: with --audio.max-seconds %g training sees other parts, too",
            name, heard, heard,
        )  # fmt: skip
    return SpectrogramModel(tower, extractor)


def save(name: str, folder: Path) -> None:
    """Write config.json and preprocessor_config.json.

    Raises:
        InputError: no such model, or not an audio model.
    """
    for part in describe(name):
        part.save_pretrained(folder)


class WaveModel(nn.Module):
    """wav2vec2, HuBERT, WavLM and their kin: waveform -> mean of the states over the clip's own frames.

    Padding changes nothing: beside the attention mask, a feature encoder that normalises over time (wav2vec2-base) does
    so over the clip's own length, as if it were alone; and a model that feels padding all the same (data2vec, adapters)
    is given clips of one length at a time. Time masks are silence; frequency masks do not apply.
    """

    model: Any  # the methods used are those of a family of classes

    def __init__(self, model: PreTrainedModel, normalize: bool) -> None:
        super().__init__()
        self.model = model
        self.normalize = normalize
        config = model.config
        self.width = int(config.output_hidden_size if getattr(config, "add_adapter", False) else config.hidden_size)
        self.first = (config.conv_kernel[0], config.conv_stride[0])
        self.shortest = self._shortest()
        for parent in list(self.model.feature_extractor.modules()):
            for child_name, child in list(parent.named_children()):
                if isinstance(child, nn.GroupNorm) and child.num_groups == child.num_channels:
                    setattr(parent, child_name, ClipNorm(child))
        self.feels_padding = False
        self.feels_padding = self._feels_padding()

    def forward(self, batch: Batch) -> Tensor:
        """Batch of "wave" and "lengths" -> [B, width] float32."""
        wave, lengths = batch.get("wave"), batch.get("lengths")
        wave = nn.functional.pad(wave, (0, max(0, self.shortest - wave.shape[1])))
        mask = within(lengths, wave.shape[1])
        if self.normalize:
            wave = _standardised(wave, mask, lengths)
        if "time_masks" in batch:
            wave = wave.masked_fill(covered(batch.get("time_masks"), lengths, wave.shape[1]), 0)
        lengths = lengths.clamp(min=self.shortest)  # a shorter clip is one frame, in silence
        if not self.feels_padding:
            return self._encode(wave, lengths)
        order = lengths.argsort(stable=True)
        counts = lengths[order].unique_consecutive(return_counts=True)[1].tolist()
        parts = [self._encode(wave[rows, : int(lengths[rows[0]])], lengths[rows]) for rows in order.split(counts)]
        return torch.cat(parts)[order.argsort()]

    def _encode(self, wave: Tensor, lengths: Tensor) -> Tensor:
        kernel, stride = self.first
        for module in self.model.modules():
            if isinstance(module, ClipNorm):
                module.lengths = (lengths - kernel) // stride + 1
        mask = within(lengths, wave.shape[1])
        states: Tensor = self.model(wave, attention_mask=mask.long()).last_hidden_state
        return _mean(states, self._frames(lengths))

    @torch.no_grad()
    def _feels_padding(self) -> bool:
        """Whether a clip has another vector beside a longer one than alone."""
        long = 16 * self.shortest
        wave = torch.arange(long, device=self.model.device).mul(0.3).sin().repeat(2, 1)
        lengths = torch.tensor([long // 2, long], device=wave.device)
        training = self.training
        self.eval()
        alone = self._encode(wave[:1, : long // 2], lengths[:1])[0]
        beside = self._encode(wave.masked_fill(~within(lengths, long), 0), lengths)[0]
        self.train(training)
        return bool((alone - beside).norm() > PADDING * alone.norm())

    def _frames(self, lengths: Tensor) -> Tensor:
        frames: Tensor = self.model._get_feat_extract_output_lengths(lengths)
        return frames.long()

    def _shortest(self) -> int:
        """Samples of the shortest clip that makes a frame."""
        most = 1
        while True:  # doubling: the model's own formula is asked, not repeated
            most *= 2
            enough = self._frames(torch.arange(1, most + 1)) >= 1
            if bool(enough[-1]):
                return int(enough.nonzero()[0]) + 1


class ClipNorm(nn.Module):
    """The group norm of one channel a group, over each row's own `lengths` in place of the padded length."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.lengths: Tensor | None = None  # [B], set before each forward by `WaveModel`

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T] -> the same shape, float32."""
        assert self.lengths is not None
        x = x.float()
        valid = within(self.lengths, x.shape[2])[:, None]
        count = self.lengths[:, None, None]
        x = x - (x * valid).sum(2, keepdim=True) / count
        variance = (x * valid).square().sum(2, keepdim=True) / count
        return x * (variance + self.eps).rsqrt() * self.weight[:, None] + self.bias[:, None]


class SpectrogramModel(nn.Module):
    """Whisper's encoder, AST, CLAP and their kin: each clip through the model's own feature extractor, on the CPU.

    The features are the model's pooled output, or the mean of its states over the clip's own frames. Time masks are
    silence in the waveform; frequency masks lie on the spectrogram.
    """

    model: Any

    def __init__(self, model: PreTrainedModel, extractor: Any) -> None:
        super().__init__()
        self.model = model
        self.extractor = extractor
        self.width = int(model.config.hidden_size)
        self.bands = int(getattr(extractor, "num_mel_bins", extractor.feature_size))
        self.takes_mask = "attention_mask" in inspect.signature(model.forward).parameters

    def forward(self, batch: Batch) -> Tensor:
        """Batch of "wave" and "lengths" -> [B, width] float32."""
        inputs = self._inputs(batch)
        mask = inputs.pop("attention_mask", None)
        if mask is not None and self.takes_mask:
            inputs["attention_mask"] = mask
        output = self.model(**inputs)
        pooled: Tensor | None = getattr(output, "pooler_output", None)
        if pooled is not None:
            return pooled.float()
        states = output.last_hidden_state  # [B, F, W]
        frames = torch.full((len(states),), states.shape[1], device=states.device)
        if mask is not None:
            frames = mask.sum(1)
            if mask.shape[1] != states.shape[1]:
                frames = self.model._get_feat_extract_output_lengths(frames)
        return _mean(states, frames)

    def _inputs(self, batch: Batch) -> dict[str, Tensor]:
        wave, lengths = batch.get("wave"), batch.get("lengths")
        if "time_masks" in batch:
            wave = wave.masked_fill(covered(batch.get("time_masks"), lengths, wave.shape[1]), 0)
        rate = self.extractor.sampling_rate
        heard = heard_seconds(self.extractor)
        clips = []
        for row, length in zip(wave.detach().float().cpu(), lengths.tolist(), strict=True):
            # cut here: CLAP's extractor would seek a place by numpy's global generator
            clip = row[:length] if heard is None else row[: min(length, int(heard * rate))]
            clips.append(nn.functional.pad(clip, (0, max(0, int(SHORTEST * rate) - len(clip)))).numpy())
        features = self.extractor(clips, sampling_rate=rate, return_tensors="pt", return_attention_mask=True)
        inputs = {name: value.to(wave.device) for name, value in features.items()}
        if "is_longer" in inputs:  # CLAP's fusion: the extractor calls one clip of a batch longer by chance; none is
            inputs["is_longer"] = torch.zeros_like(inputs["is_longer"])
        main = self.model.main_input_name
        x = inputs[main].float()
        if "freq_masks" in batch and self.bands in x.shape[-2:]:
            x = self._masked(x, batch.get("freq_masks"))
        inputs[main] = x
        return inputs

    def _masked(self, x: Tensor, masks: Tensor) -> Tensor:
        """Bands under a mask take the clip's mean, whichever of the last two dimensions they are."""
        bands = covered(masks, torch.full((len(x),), self.bands, device=x.device), self.bands)  # [B, M]
        at = x.ndim - 1 if x.shape[-1] == self.bands else x.ndim - 2
        shape = [len(x)] + [1] * (x.ndim - 1)
        mean = x.flatten(1).mean(1).view(shape)
        shape[at] = self.bands
        return torch.where(bands.view(shape), mean, x)


def describe(name: str) -> tuple[PreTrainedConfig, SequenceFeatureExtractor]:
    """The configuration of a model, of a two-tower one the whole, and its feature extractor.

    Raises:
        InputError: no such model, or not an audio model.
    """
    try:
        config = AutoConfig.from_pretrained(name)
        extractor = AutoFeatureExtractor.from_pretrained(name)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _unusable(name, error) from error
    if not isinstance(extractor, SequenceFeatureExtractor):
        raise _unusable(name, TypeError(f"{type(extractor).__name__} does not read sound"))
    return config, extractor


def _set_config(config: PreTrainedConfig, name: str) -> None:
    """No masks of the model's own, and no LayerDrop, which would leave whole layers without gradients at random."""
    for part in (config, getattr(config, "audio_config", None)):
        for key in LAYERDROPS:
            if getattr(part, key, 0):
                log.warning("audio encoder %r: %s %s is set to 0", name, key, getattr(part, key))
        for key in (*LAYERDROPS, *MASKS):
            if hasattr(part, key):
                setattr(part, key, 0.0)


def _audio_tower(model: Any) -> Any:
    """CLAP's audio half, the encoder of an encoder-decoder, or the model as it is."""
    if getattr(model.config, "audio_config", None) is not None:
        return model.audio_model
    return model.get_encoder() if model.config.is_encoder_decoder else model


def heard_seconds(extractor: Any) -> float | None:
    """Seconds after which a feature extractor cuts; None: it takes sounds of any length."""
    samples = getattr(extractor, "nb_max_samples", None) or getattr(extractor, "n_samples", None)
    if samples is not None:
        return float(samples / extractor.sampling_rate)
    # AST: frames of 10 ms
    return extractor.max_length / 100 if isinstance(extractor, ASTFeatureExtractor) else None


def _standardised(wave: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean and unit variance over each clip's own length, zero beyond it, as Wav2Vec2FeatureExtractor has it."""
    count = lengths[:, None]
    wave = (wave - (wave * mask).sum(1, keepdim=True) / count) * mask
    variance = wave.square().sum(1, keepdim=True) / count
    return wave * (variance + 1e-7).rsqrt()


def _mean(states: Tensor, frames: Tensor) -> Tensor:
    """[B, F, W] of any dtype -> [B, W] float32, the mean over the first frames [B] of each row."""
    valid = within(frames, states.shape[1])[..., None]
    return (states.float() * valid).sum(1) / frames[:, None]


def _unusable(name: str, error: Exception) -> InputError:
    reason = str(error).strip().split("\n")[0].rstrip(".")
    return InputError(
        f'cannot use the audio encoder {name!r}: {reason}. An audio encoder is "small", the name of a Hugging Face '
        'audio model ("facebook/wav2vec2-base", "openai/whisper-base", ...) or the folder of one, '
        "or an nn.Module of your own"
    )
