"""Encoders of wav2vec2's family, which read waveforms of any lengths in one batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from multicl.modalities import pretrained
from multicl.modalities.audio.mel import covered, within
from multicl.modalities.probing import probing

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from multicl.types import Batch

PADDING = 1e-4
"""Relative difference, by norm, that padding may make to a vector: rounding, and no more."""


class WaveModel(nn.Module):
    """wav2vec2, HuBERT, WavLM and similar models: waveform -> mean of the states over the clip's own frames.

    Padding changes nothing: the model gets an attention mask; a feature encoder that normalises over time
    (wav2vec2-base) does so over the clip's own length; and a model that padding changes nonetheless (data2vec,
    adapters) gets only clips of equal length together. Time masks are silence; frequency masks have no effect.
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
        lengths = lengths.clamp(min=self.shortest)  # silence pads a shorter clip to one frame
        if not self.feels_padding:
            return self._encode(wave, lengths)
        order = lengths.argsort(stable=True)
        equal = lengths[order].unique_consecutive(return_counts=True)
        longs, counts = torch.stack(equal).tolist()  # in one copy: each one synchronises with a GPU
        groups = zip(longs, order.split(counts), strict=True)
        parts = [self._encode(wave[rows, :long], lengths[rows]) for long, rows in groups]
        return torch.cat(parts)[order.argsort()]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute layers in backward; those of the feature encoder with the clip lengths of their forward pass."""
        pretrained.recompute(self.model, enable)
        for layer in self.model.feature_extractor.modules():
            if hasattr(layer, "_gradient_checkpointing_func"):
                layer._gradient_checkpointing_func = self._checkpoint

    def _checkpoint(self, layer: Callable[..., Any], *given: Any) -> Any:
        lengths = [norm.lengths for norm in self.norms]

        def run(*given: Any) -> Any:
            for norm, its in zip(self.norms, lengths, strict=True):
                norm.lengths = its
            return layer(*given)

        return checkpoint(run, *given, use_reentrant=False)

    @property
    def norms(self) -> list[ClipNorm]:
        """The norms over each clip's own length."""
        return [part for part in self.model.modules() if isinstance(part, ClipNorm)]

    def _encode(self, wave: Tensor, lengths: Tensor) -> Tensor:
        kernel, stride = self.first
        for norm in self.norms:
            norm.lengths = (lengths - kernel) // stride + 1
        mask = within(lengths, wave.shape[1])
        states: Tensor = self.model(wave, attention_mask=mask.long()).last_hidden_state
        return mean_of_frames(states, self._frames(lengths))

    def _feels_padding(self) -> bool:
        """Whether a clip's vector differs when it is padded beside a longer clip."""
        long = 16 * self.shortest
        wave = torch.arange(long, device=self.model.device).mul(0.3).sin().repeat(2, 1)
        lengths = torch.tensor([long // 2, long], device=wave.device)
        with probing(self):
            alone = self._encode(wave[:1, : long // 2], lengths[:1])[0]
            beside = self._encode(wave.masked_fill(~within(lengths, long), 0), lengths)[0]
        return bool((alone - beside).norm() > PADDING * alone.norm())

    def _frames(self, lengths: Tensor) -> Tensor:
        frames: Tensor = self.model._get_feat_extract_output_lengths(lengths)
        return frames.long()

    def _shortest(self) -> int:
        """Samples of the shortest clip that yields a frame."""
        most = 1
        while True:  # doubling, as the model's own formula cannot be inverted
            most *= 2
            enough = self._frames(torch.arange(1, most + 1)) >= 1
            if bool(enough[-1]):
                return int(enough.nonzero()[0]) + 1


class ClipNorm(nn.Module):
    """Group norm with one channel per group, over each row's own `lengths` instead of the padded length."""

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


def _standardised(wave: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean and unit variance over each clip's own length, zero beyond it, like Wav2Vec2FeatureExtractor."""
    count = lengths[:, None]
    wave = (wave - (wave * mask).sum(1, keepdim=True) / count) * mask
    variance = wave.square().sum(1, keepdim=True) / count
    return wave * (variance + 1e-7).rsqrt()


def mean_of_frames(states: Tensor, frames: Tensor) -> Tensor:
    """[B, F, W] of any dtype -> [B, W] float32, the mean over the first frames [B] of each row."""
    valid = within(frames, states.shape[1])[..., None]
    return (states.float() * valid).sum(1) / frames[:, None]
