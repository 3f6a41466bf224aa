"""A trained audio encoder as the audio half of CLAP (arXiv:2211.06687), as transformers loads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multicl.modalities import lora
from multicl.modalities.audio import pretrained
from multicl.types import Half, InputError

if TYPE_CHECKING:
    from torch import nn

    from multicl.modalities.audio.settings import Audio


def half(audio: Audio, encoder: nn.Module) -> Half:
    """The encoder as the audio half of CLAP.

    Raises:
        InputError: it is none.
    """
    if not isinstance(encoder, pretrained.SpectrogramModel) or not isinstance(audio.encoder, str):
        raise InputError(f"a {type(encoder).__name__} is no audio half of a two-tower model")
    config, _ = pretrained.describe(audio.encoder)
    if getattr(config, "audio_config", None) is None:
        raise InputError(f"a {type(encoder.model).__name__} is no audio half of a two-tower model")
    extractor, rate = encoder.extractor, encoder.extractor.sampling_rate
    seconds = pretrained.heard_seconds(extractor)
    usage = f"""    waves = [torch.zeros({rate}).numpy()]  # float32 [T] each, mono, at {rate} Hz
    sounds = processor(audio=waves, sampling_rate={rate}, return_tensors="pt")
    audio = model.get_audio_features(**sounds).pooler_output  # [N, D]"""
    notes = (
        f"Of a sound longer than {seconds:g} s this model heard the first ones: cut it, or the extractor draws a part."
    )
    if audio.windows > 1:
        notes += f" The figures are of up to {audio.windows} windows of a sound, averaged."
    return Half(lora.merged(encoder).model, config, lambda: extractor, usage, notes)
