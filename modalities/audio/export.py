"""Export of a trained audio encoder for transformers, alone or as the audio half of CLAP (arXiv:2211.06687)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from multicl.modalities import lora
from multicl.modalities.audio import pretrained
from multicl.modalities.audio.waveform import WaveModel
from multicl.modalities.pretrained import quiet
from multicl.types import Half, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from multicl.modalities.audio.settings import Audio


def forms(encoder: nn.Module) -> tuple[str, ...]:
    """The forms of export that can hold this encoder."""
    import transformers

    own = isinstance(encoder, WaveModel | pretrained.SpectrogramModel)
    return ("transformers",) if own and hasattr(transformers, type(encoder.model).__name__) else ()


def write(audio: Audio, encoder: nn.Module, head: nn.Module | None, folder: Path, form: str) -> str:
    """Write a transformers model and its feature extractor.

    Returns:
        Markdown for the model card that shows how to use them.

    Raises:
        InputError: there is a head.
    """
    if head is not None:
        raise InputError(f"{form} has no place for a head: export the encoder's features (--space features)")
    assert isinstance(audio.encoder, str)
    assert isinstance(encoder, WaveModel | pretrained.SpectrogramModel)
    plain = lora.merged(encoder)
    with quiet():
        plain.model.save_pretrained(folder)
    pretrained.describe(audio.encoder)[1].save_pretrained(folder)
    kind, rate = type(plain.model).__name__, audio.rate
    features = _features(plain, rate)
    return f"""```python
import torch
from transformers import AutoFeatureExtractor, {kind}
extractor, model = AutoFeatureExtractor.from_pretrained("this-folder"), {kind}.from_pretrained("this-folder").eval()
wave = torch.zeros({rate}).numpy()  # float32 [T], mono, at {rate} Hz
given = extractor([wave], sampling_rate={rate}, return_tensors="pt")
with torch.no_grad():
    out = model(**given)
features = {features}  # [1, {plain.width}]
```

Pass one sound at a time. In a batch of sounds of different lengths, use only the frames within each sound's own length.
"""


def _features(encoder: WaveModel | pretrained.SpectrogramModel, rate: int) -> str:
    """Python code for the features of one sound: the pooled output, or the mean of the states without padding."""
    mean = "out.last_hidden_state.mean(1)"
    if isinstance(encoder, WaveModel):
        return mean
    given = encoder.extractor([torch.zeros(rate).numpy()], sampling_rate=rate, return_tensors="pt")
    with torch.no_grad():
        out = encoder.model(**given)
    if getattr(out, "pooler_output", None) is not None:
        return "out.pooler_output"
    masked = "attention_mask" in given and given["attention_mask"].shape == out.last_hidden_state.shape[:2]
    return 'out.last_hidden_state[given["attention_mask"] > 0].mean(0, keepdim=True)' if masked else mean


def half(audio: Audio, encoder: nn.Module) -> Half:
    """The encoder as the audio half of CLAP.

    Raises:
        InputError: it is not such a half.
    """
    if not isinstance(encoder, pretrained.SpectrogramModel) or not isinstance(audio.encoder, str):
        raise InputError(f"a {type(encoder).__name__} is not the audio half of a two-tower model")
    config, _ = pretrained.describe(audio.encoder)
    if getattr(config, "audio_config", None) is None:
        raise InputError(f"a {type(encoder.model).__name__} is not the audio half of a two-tower model")
    extractor, rate = encoder.extractor, encoder.extractor.sampling_rate
    seconds = pretrained.heard_seconds(extractor)
    usage = f"""    waves = [torch.zeros({rate}).numpy()]  # float32 [T] each, mono, at {rate} Hz
    sounds = processor(audio=waves, sampling_rate={rate}, return_tensors="pt")
    audio = model.get_audio_features(**sounds).pooler_output  # [N, D]"""
    notes = (
        f"This model heard the first {seconds:g} s of longer sounds: cut them, or the extractor draws a random part."
    )
    if audio.windows > 1:
        notes += f" The figures are of up to {audio.windows} windows of a sound, averaged."
    return Half(lora.merged(encoder).model, config, lambda: extractor, usage, notes)
