"""Hugging Face audio models as encoders: some read waveforms, others the spectrograms of their feature extractor.

A model's configuration and feature extractor decide which kind it is, never its name.
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
    ClapFeatureExtractor,
    PreTrainedConfig,
    PreTrainedModel,
    SequenceFeatureExtractor,
    Wav2Vec2FeatureExtractor,
)

from multicl.modalities import pretrained
from multicl.modalities.audio import features
from multicl.modalities.audio.mel import covered
from multicl.modalities.audio.waveform import WaveModel, mean_of_frames
from multicl.types import InputError

if TYPE_CHECKING:
    from multicl.types import Batch

log = logging.getLogger(__name__)

MASKS = ("mask_time_prob", "mask_feature_prob")
"""Keys of the models' own SpecAugment, turned off: it draws for the whole batch; views mask from each row's seed."""
SHORTEST = 0.05  # seconds; shorter sounds are padded to it, as Kaldi's extractor refuses less than its window of 25 ms


def build(name: str, rate: int, max_seconds: float, weights: bool) -> WaveModel | SpectrogramModel:
    """The encoder for a hub name or a folder; without `weights`, only configurations are read.

    Raises:
        InputError: no such model, not an audio model, or one for another rate.
    """
    config, extractor = describe(name)
    for part in (config, getattr(config, "audio_config", None)):
        pretrained.without_layerdrop(part, f"audio encoder {name!r}")
        for key in MASKS:
            if hasattr(part, key):
                setattr(part, key, 0.0)
    if extractor.sampling_rate != rate:
        wanted = extractor.sampling_rate
        raise InputError(
            f"the audio encoder {name!r} expects {wanted} Hz, but this run's sound is at {rate} Hz; "
            f"set --audio.rate {wanted}"
        )
    try:
        model, absent = pretrained.build(name, config, weights)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unusable(name, error) from error
    tower = _audio_tower(model)
    pretrained.warn_of_absent(name, tower, absent)
    if isinstance(extractor, Wav2Vec2FeatureExtractor):
        if not (hasattr(tower, "feature_extractor") and hasattr(tower.config, "conv_kernel")):
            raise _unusable(name, TypeError(f"{type(tower).__name__} is not built like wav2vec2"))
        return WaveModel(tower, extractor.do_normalize)
    heard = heard_seconds(extractor)
    if heard is not None and heard < max_seconds:
        log.warning(
            "%s hears only the first %g s of a sound; with --audio.max-seconds %g, training hears other parts, too",
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


class SpectrogramModel(nn.Module):
    """Whisper's encoder, AST, CLAP and similar models, on the spectrograms of the model's own feature extractor.

    The features are the model's pooled output, or the mean of its states over the clip's own frames. Time masks
    silence the waveform; frequency masks apply to the spectrogram.
    """

    model: Any

    def __init__(self, model: PreTrainedModel, extractor: Any) -> None:
        super().__init__()
        self.model = model
        self.extractor = extractor
        self.width = int(model.config.hidden_size)
        self.bands = int(getattr(extractor, "num_mel_bins", extractor.feature_size))
        self.takes_device = "device" in inspect.signature(extractor).parameters
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
        return mean_of_frames(states, frames)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute layers in backward. ValueError: the model does not support it."""
        pretrained.recompute(self.model, enable)

    def _inputs(self, batch: Batch) -> dict[str, Tensor]:
        wave, lengths = batch.get("wave"), batch.get("lengths")
        if "time_masks" in batch:
            wave = wave.masked_fill(covered(batch.get("time_masks"), lengths, wave.shape[1]), 0)
        inputs = self._features(wave.detach().float(), lengths)
        if isinstance(self.extractor, ClapFeatureExtractor):  # its extractor marks a random clip of a batch as longer
            inputs["is_longer"] = torch.zeros(len(wave), 1, dtype=torch.bool, device=wave.device)
        main = self.model.main_input_name
        x = inputs[main].float()
        if "freq_masks" in batch and self.bands in x.shape[-2:]:
            x = self._masked(x, batch.get("freq_masks"))
        inputs[main] = x
        return inputs

    def _features(self, wave: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """The extractor's output for sounds [B, T], zero beyond their lengths; they are cut to what it hears."""
        rate, heard = self.extractor.sampling_rate, heard_seconds(self.extractor)
        # cut here: CLAP's extractor would draw a window from numpy's global generator
        wave = wave if heard is None else wave[:, : round(heard * rate)]
        least = int(SHORTEST * rate)
        wave = nn.functional.pad(wave, (0, max(0, least - wave.shape[1])))
        own = lengths.clamp(max=wave.shape[1])
        found = features.of_batch(self.extractor, wave, own.clamp(min=least))
        if found is not None:
            return found
        clips = [
            nn.functional.pad(row[:length], (0, max(0, least - length))).numpy()
            for row, length in zip(wave.cpu(), own.tolist(), strict=True)
        ]
        options = {"device": str(wave.device)} if self.takes_device else {}
        with torch.autocast(wave.device.type, enabled=False):  # Whisper's computes mel bands in torch
            given = self.extractor(
                clips, sampling_rate=rate, return_tensors="pt", return_attention_mask=True, **options
            )
        return {name: value.to(wave.device) for name, value in given.items()}

    def _masked(self, x: Tensor, masks: Tensor) -> Tensor:
        """Set masked bands to the clip's mean; bands are one of the last two dimensions."""
        bands = covered(masks, torch.full((len(x),), self.bands, device=x.device), self.bands)  # [B, M]
        at = x.ndim - 1 if x.shape[-1] == self.bands else x.ndim - 2
        shape = [len(x)] + [1] * (x.ndim - 1)
        mean = x.flatten(1).mean(1).view(shape)
        shape[at] = self.bands
        return torch.where(bands.view(shape), mean, x)


def describe(name: str) -> tuple[PreTrainedConfig, SequenceFeatureExtractor]:
    """The configuration of a model (of the whole if it has two towers) and its feature extractor.

    Raises:
        InputError: no such model, or not an audio model.
    """
    try:
        config = pretrained.fetch(AutoConfig.from_pretrained, name)
        extractor = pretrained.fetch(AutoFeatureExtractor.from_pretrained, name)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _unusable(name, error) from error
    if not isinstance(extractor, SequenceFeatureExtractor):
        raise _unusable(name, TypeError(f"{type(extractor).__name__} does not read sound"))
    return config, extractor


def _audio_tower(model: Any) -> Any:
    """CLAP's audio half, the encoder of an encoder-decoder, or the model as it is."""
    if getattr(model.config, "audio_config", None) is not None:
        return model.audio_model
    return model.get_encoder() if model.config.is_encoder_decoder else model


def heard_seconds(extractor: Any) -> float | None:
    """Seconds to which a feature extractor cuts sounds; None: it takes any length."""
    samples = getattr(extractor, "nb_max_samples", None) or getattr(extractor, "n_samples", None)
    if samples is not None:
        return float(samples / extractor.sampling_rate)
    if not isinstance(extractor, ASTFeatureExtractor):
        return None
    size, hop = features.kaldi_frames(extractor.sampling_rate)
    return float((size + (extractor.max_length - 1) * hop) / extractor.sampling_rate)


def _unusable(name: str, error: Exception) -> InputError:
    reason = pretrained.first_line(error).rstrip(".")
    return InputError(
        f'cannot use the audio encoder {name!r}: {reason}. An audio encoder is "small", the name of a Hugging Face '
        'audio model ("facebook/wav2vec2-base", "openai/whisper-base", ...) or the folder of one, '
        "or an nn.Module of your own"
    )
