"""Gradient checkpointing: the same training to the bit, with less kept for backward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hf
import media
import pytest
import torch
from steps import Built
from torch.nn.utils import parametrizations
from toys import Vectors
from transformers import ViTConfig, ViTModel, Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model
from two_tower_models import saved, sounds

from multicl import Head, InputError, Modality, Pair, Train, Trainer
from multicl.modalities.audio import Audio
from multicl.modalities.image import Image
from multicl.modalities.text import Text
from multicl.towers import Towers
from multicl.training.recompute import recompute_layers

ROWS = [
    {"text": text, "image": media.pixels(i), "audio": (wave, 16000)}
    for i, (text, wave) in enumerate(zip(hf.TEXTS, sounds(), strict=False))
]
Nodes = dict[str, Modality]


def bert(folder: Path, pooling: Any = "mean") -> Nodes:
    return {"text": Text(str(hf.bert(folder)), max_tokens=16, pooling=pooling, dropout=0.1)}


def updates(folder: Path) -> Nodes:
    pytest.importorskip("peft")
    return {"text": Text(str(hf.bert(folder)), max_tokens=16, lora=2)}


def vit(folder: Path) -> Nodes:
    ViTModel(ViTConfig(**hf.SIZE, image_size=32, patch_size=8), add_pooling_layer=False).save_pretrained(folder)
    return {"image": Image(str(folder))}


def resnet(folder: Path) -> Nodes:
    pytest.importorskip("timm")
    return {"image": Image("timm/resnet10t", pretrained=False)}


def waves(folder: Path) -> Nodes:
    config = Wav2Vec2Config(
        **hf.SIZE, conv_dim=(8, 8), conv_kernel=(40, 8), conv_stride=(20, 8), num_feat_extract_layers=2,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return {"audio": Audio(str(folder))}


def two(folder: Path) -> Nodes:
    return bert(folder / "text") | vit(folder / "image")


def trained(nodes: Nodes, keys: Any, on: bool, chunk: int | None) -> Mapping[str, torch.Tensor]:
    """Everything that three steps leave in the towers; `on`: with gradient checkpointing."""
    a, b = min(nodes), max(nodes)
    train = Train(batch_size=4, steps=3, gradient_checkpointing=on, chunk_size=chunk)
    trainer = Trainer(nodes, [Pair(a, b, keys=keys)], ROWS, train=train, head=Head(dim=8))
    assert trainer.towers.recomputes is on
    trainer.fit()
    return trainer.towers.state_dict()


@pytest.mark.parametrize("make", [bert, updates, vit, resnet, waves, two])
@pytest.mark.parametrize(("keys", "chunk"), [("online", None), ("online", 3), ("momentum", None)])
def test_training_is_the_same_to_the_bit(
    make: Callable[[Path], Nodes], keys: str, chunk: int | None, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    nodes = make(tmp_path / "model")
    plain, again = (trained(nodes, keys, on, chunk) for on in (False, True))
    assert plain.keys() == again.keys()
    for name, value in plain.items():  # BatchNorm's statistics among them
        assert torch.equal(value, again[name]), name


@pytest.mark.parametrize("pooling", ["mean", "first_last", "top2", "pooler"])
def test_less_is_kept_and_the_gradient_is_the_same(pooling: str, tmp_path: Path) -> None:
    nodes = bert(tmp_path / "model", pooling)
    text = nodes["text"]
    batch = text.collate([text.load(words, None) for words in hf.TEXTS])

    def kept(towers: Towers) -> tuple[int, dict[str, torch.Tensor]]:
        """Bytes for backward beside the weights, and gradients."""
        found = {}

        def pack(t: torch.Tensor) -> torch.Tensor:
            found[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            (h,) = towers.embed("text", batch, [None])
        (h * h.detach().sin()).sum().backward()
        weights = {p.untyped_storage().data_ptr() for p in towers.parameters()}
        grads = {name: p.grad for name, p in towers.named_parameters() if p.grad is not None}
        return sum(size for at, size in found.items() if at not in weights), grads

    whole, layered = (Towers(nodes, [Pair("text", "text")]).train() for _ in range(2))
    layered.load_state_dict(whole.state_dict())
    recompute_layers(layered, pytest.fail)
    (much, wanted), (little, grads) = kept(whole), kept(layered)
    assert little < 0.2 * much
    assert grads.keys() == wanted.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grad, wanted[name], atol=1e-6, rtol=1e-5)


def test_an_encoder_that_cannot_is_named(tmp_path: Path) -> None:
    said: list[str] = []
    towers = Towers(bert(tmp_path / "model") | {"a": Vectors()}, [Pair("text", "a")])
    recompute_layers(towers, said.append)
    assert said == ["no gradient checkpointing in a: the encoder cannot recompute its layers"]


@pytest.mark.parametrize(
    "make",
    [lambda path: {"a": Vectors()}, lambda path: {"a": Text(str(saved(path / "clap", "clap")), max_tokens=16)}],
    ids=["no library's", "a library's that has no such layers"],
)
def test_where_none_can_it_is_refused(make: Any, tmp_path: Path) -> None:
    train = Train(batch_size=2, steps=1, gradient_checkpointing=True)
    with pytest.raises(InputError, match=r"no encoder of \['a'\] can recompute its layers.*--train.chunk-size"):
        Trainer(make(tmp_path), [Pair("a", "a")], [{"a": "x"}], train=train)


class Layered(torch.nn.Linear):
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        pass


@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, torch.nn.utils.spectral_norm])
def test_a_spectral_norm_which_would_move_again_is_refused(norm: Any) -> None:
    towers = Towers({"a": Built(net=lambda: norm(Layered(6, 8)))}, [Pair("a", "a")])
    with pytest.raises(InputError, match=r"encoder of 'a' has a spectral norm.*--train.chunk-size"):
        recompute_layers(towers, pytest.fail)
    recompute_layers(Towers({"a": Built(net=lambda: Layered(6, 8))}, [Pair("a", "a")]), pytest.fail)


def test_what_memory_allows_is_not_guessed(tmp_path: Path) -> None:
    train = Train(batch_size=2, steps=1, gradient_checkpointing=True, chunk_size="auto")
    trainer = Trainer(bert(tmp_path / "model"), [Pair("text", "text")], ROWS, train=train)
    with pytest.raises(InputError, match=r"chunk_size 'auto' with train.gradient_checkpointing needs a GPU"):
        trainer.fit()
