"""Audio encoders as transformers loads them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)
from two_tower_models import RATE, saved

from multicl import Head, Model, Pair, load
from multicl.export import export, fitting
from multicl.modalities.audio import Audio
from multicl.towers import Towers
from multicl.types import InputError

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def wav2vec2(norm: str) -> tuple[Any, Any]:
    config = Wav2Vec2Config(
        **SIZE, conv_dim=(8, 8), conv_kernel=(10, 3), conv_stride=(5, 2), num_feat_extract_layers=2,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, feat_extract_norm=norm,
    )  # fmt: skip
    return Wav2Vec2Model(config), Wav2Vec2FeatureExtractor()


def ast() -> tuple[Any, Any]:
    config = ASTConfig(**SIZE, max_length=64, num_mel_bins=32)
    return ASTModel(config), ASTFeatureExtractor(max_length=64, num_mel_bins=32)


def ast_of_every_frame() -> tuple[Any, Any]:
    """Of 0.64 s, the last frame of which it sees, too."""
    config = ASTConfig(**SIZE, max_length=64, num_mel_bins=32, patch_size=8, time_stride=8, frequency_stride=8)
    return ASTModel(config), ASTFeatureExtractor(max_length=64, num_mel_bins=32)


def w2v_bert() -> tuple[Any, Any]:
    """Its extractor pads a sound to pairs of frames."""
    config = Wav2Vec2BertConfig(**SIZE, feature_projection_input_dim=32, conv_depthwise_kernel_size=3, layerdrop=0.0)
    return Wav2Vec2BertModel(config), SeamlessM4TFeatureExtractor(feature_size=16, num_mel_bins=16)


def whisper() -> tuple[Any, Any]:
    config = WhisperConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=16, max_source_positions=50, vocab_size=40, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    return WhisperModel(config), WhisperFeatureExtractor(feature_size=16, chunk_length=1)


def model_of(folder: Path, audio: Audio) -> Path:
    """A model of one node, `audio`, as if trained, in a folder."""
    torch.manual_seed(0)
    model = Model(Towers({"audio": audio}, [Pair("audio", "audio")], Head(dim=4)), None)
    with torch.no_grad():
        for parameter in model.towers.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model.save(folder, {"knn": 0.51234})


def written(folder: Path, parts: tuple[Any, Any]) -> str:
    for part in parts:
        part.save_pretrained(folder)
    return str(folder)


def run(out: Path, wave: torch.Tensor) -> torch.Tensor:
    """What the card's program has of a sound."""
    (code,) = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    code = re.sub(r"wave = .*", "wave = given", code).replace("this-folder", str(out))
    names: dict[str, Any] = {"given": wave.numpy()}
    exec(code, names)
    features: torch.Tensor = names["features"]
    return features


def sine(rate: int) -> torch.Tensor:
    return 0.3 * torch.sin(torch.arange(rate * 3 // 4) ** 2 / rate)


@pytest.mark.parametrize(
    "make", [lambda: wav2vec2("group"), lambda: wav2vec2("layer"), ast, ast_of_every_frame, w2v_bert]
)
def test_transformers_gives_our_features(make: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    audio = Audio(written(tmp_path / "theirs", make()))
    folder = model_of(tmp_path / "model", audio)
    model = load(folder, device="cpu")
    assert fitting(model) == {"transformers": ["audio"]}
    out, wave = export(folder, "transformers", tmp_path / "out"), sine(16000)
    expected = model.embed(audio=[(wave.numpy(), 16000)], space=None, normalize=False)
    torch.testing.assert_close(run(out, wave), expected, atol=1e-5, rtol=1e-5)
    assert "| knn | 0.5123 |" in (out / "README.md").read_text()


def test_one_half_of_clap(tmp_path: Path) -> None:
    audio = Audio(str(saved(tmp_path / "theirs", "clap")), rate=RATE, max_seconds=1.0)
    folder = model_of(tmp_path / "model", audio)
    out, wave = export(folder, "transformers", tmp_path / "out"), sine(RATE)
    expected = load(folder, device="cpu").embed(audio=[(wave.numpy(), RATE)], space=None, normalize=False)
    torch.testing.assert_close(run(out, wave), expected, atol=1e-5, rtol=1e-5)
    again = Model(Towers({"audio": replace(audio, encoder=str(out))}, [Pair("audio", "audio")]).eval(), None)
    found = again.embed(audio=[(wave.numpy(), RATE)], normalize=False)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    saved_again = load(again.save(tmp_path / "again"), device="cpu")
    assert torch.equal(saved_again.embed(audio=[(wave.numpy(), RATE)], normalize=False), found)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda folder: Audio(), {}, "Forms that fit: none"),
        (lambda folder: Audio(written(folder, whisper())), {}, "Forms that fit: none"),
        (lambda folder: Audio(written(folder, ast())), {"space": "joint"}, "no place for a head"),
    ],
)
def test_what_cannot_be_exported_is_refused(make: Any, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = model_of(tmp_path / "model", make(tmp_path / "theirs"))
    with pytest.raises(InputError, match=message):
        export(folder, "transformers", tmp_path / "out", **options)
