"""Small CLIP, SigLIP and CLAP models of transformers in folders, and what transformers alone computes with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hf
import numpy as np
import torch
import transformers
from torch.nn.functional import normalize

TEXTS = ["a cat", "the dog sat on a mat", "b c d", "cat cat dog"]
SIZE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**SIZE, "image_size": 16, "patch_size": 8}
TEXT = {**SIZE, "vocab_size": 16, "max_position_embeddings": 20, "bos_token_id": 0, "eos_token_id": 2,
        "pad_token_id": 1}  # fmt: skip
AUDIO = {"spec_size": 64, "num_mel_bins": 16, "window_size": 4, "patch_size": 4, "patch_stride": [4, 4],
         "patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [2, 2], "hidden_size": 16}  # fmt: skip
MEAN, STD = [0.4, 0.5, 0.6], [0.3, 0.2, 0.25]
RATE = 8000
OTHER = {"clip": "image", "siglip": "image", "clap": "audio"}
"""Kind -> the node that is not text."""


def saved(folder: Path, kind: str, act: str = "relu") -> Path:
    """A small model of that kind with its tokenizer and its image processor or feature extractor, in a folder."""
    torch.manual_seed(0)
    if kind == "clip":
        config: Any = transformers.CLIPConfig(
            text_config=TEXT, vision_config=VISION, projection_dim=12, logit_scale_init_value=3.0
        )
        model: Any = transformers.CLIPModel(config)
    elif kind == "siglip":
        config = transformers.SiglipConfig(text_config={**TEXT, "projection_size": 16}, vision_config=VISION)
        model = transformers.SiglipModel(config)
    else:
        config = transformers.ClapConfig(
            text_config=TEXT, audio_config=AUDIO, projection_dim=12, projection_hidden_act=act
        )
        model = transformers.ClapModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
        if kind == "clap":
            model.logit_scale_a.fill_(2.5)
            model.logit_scale_t.fill_(3.5)
        else:
            model.logit_scale.fill_(3.0 if kind == "clip" else 4.7)
        if kind == "siglip":
            model.logit_bias.fill_(-7.0)
    model.save_pretrained(folder)
    hf.word_level().save_pretrained(folder)
    if kind == "clap":
        transformers.ClapFeatureExtractor(
            feature_size=16, sampling_rate=RATE, hop_length=126, max_length_s=1, fft_window_size=256,
            frequency_max=4000, truncation="rand_trunc",
        ).save_pretrained(folder)  # fmt: skip
        return folder
    size, stats = {"height": 16, "width": 16}, {"image_mean": MEAN, "image_std": STD}
    if kind == "clip":
        processor: Any = transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=size, **stats)
    else:
        processor = transformers.SiglipImageProcessor(size=size, **stats)
    processor.save_pretrained(folder)
    return folder


def sounds() -> list[np.ndarray]:
    """Sounds shorter than a second and one of exactly a second, so that the extractor draws nothing."""
    generator = np.random.default_rng(0)
    parts = ((3000, 0.01), (5000, 0.1), (8000, 0.3), (1000, 1.0))  # samples and loudness
    return [
        (loud * np.sin(np.arange(n) ** 2 / n + generator.standard_normal(n))).astype(np.float32) for n, loud in parts
    ]


def theirs(folder: Path, kind: str, texts: list[str], cells: Sequence[np.ndarray]) -> tuple[Any, Any]:
    """[N, D] unit vectors of texts and of pictures [16, 16, 3] uint8, or sounds [T], by transformers alone."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    fill = {"padding": "max_length", "max_length": 20} if kind == "siglip" else {"padding": True}
    batch = dict(tokenizer(texts, return_tensors="pt", truncation=True, **fill))
    batch.pop("token_type_ids", None)
    if kind == "siglip":
        batch.pop("attention_mask", None)  # an export's gives none
    with torch.no_grad():
        text = model.get_text_features(**batch).pooler_output
        if kind == "clap":
            extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
            given = extractor(list(cells), sampling_rate=RATE, return_tensors="pt")
            other = model.get_audio_features(**given).pooler_output
        else:
            scaled = np.stack([(cell / 255 - np.array(MEAN)) / np.array(STD) for cell in cells])
            pixels = torch.tensor(scaled, dtype=torch.float32).permute(0, 3, 1, 2)
            other = model.get_image_features(pixel_values=pixels).pooler_output
    return normalize(text, dim=1), normalize(other, dim=1)
