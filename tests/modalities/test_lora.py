"""LoRA: what trains, what is saved, and what other libraries get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hf
import media
import pytest
import torch
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer, Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model
from two_tower_models import sounds

from multicl import Head, InputError, Model, Pair, Train, Trainer, load
from multicl.export import export
from multicl.modalities.audio import Audio
from multicl.modalities.image import Image
from multicl.modalities.text import Text

pytest.importorskip("peft")

TRAIN = Train(batch_size=4, steps=3, lr=1e-2, chunk_size=2)


def fitted(trainer: Trainer) -> tuple[Model, set[str]]:
    """The trained model, and the names of its towers' parameters that have moved."""
    before = {name: p.detach().clone() for name, p in trainer.towers.named_parameters()}
    model = trainer.fit()
    return model, {name for name, p in trainer.towers.named_parameters() if not torch.equal(p, before[name])}


def updates(trainer: Trainer) -> set[str]:
    return {name for name, _ in trainer.towers.named_parameters() if "lora_" in name}


def test_updates_alone_train_are_saved_and_exported(tmp_path: Path) -> None:
    plain = Text(str(hf.bert(tmp_path / "bert")), max_tokens=16)
    text = Text(plain.encoder, max_tokens=16, lora=2)
    rows = [{"text": words} for words in hf.TEXTS[:4]]
    trainer = Trainer({"text": text}, [Pair("text", "text")], rows, train=TRAIN, head=Head(layers=0))
    expected = trainer.model.embed(text=hf.TEXTS)
    encoder = plain.build().eval()
    with torch.no_grad():
        found = encoder(plain.collate([plain.load(t, None) for t in hf.TEXTS]))
    torch.testing.assert_close(expected, normalize(found, dim=1), atol=1e-5, rtol=1e-5)
    model, moved = fitted(trainer)
    assert moved == updates(trainer)
    assert len(moved) == 2 * 2 * 6  # A and B of query, key, value, and the three maps after, in two layers
    trained = model.embed(text=hf.TEXTS)
    assert (trained - expected).abs().max() > 1e-3
    folder = model.save(tmp_path / "model")
    torch.testing.assert_close(load(folder, device="cpu").embed(text=hf.TEXTS), trained)
    out = export(folder, "transformers", tmp_path / "out")
    tokenizer, net = AutoTokenizer.from_pretrained(out), AutoModel.from_pretrained(out).eval()
    batch = tokenizer(hf.TEXTS, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        states, mask = net(**batch).last_hidden_state, batch["attention_mask"][..., None]
    pooled = normalize((states * mask).sum(1) / mask.sum(1), dim=1)
    torch.testing.assert_close(pooled, trained, atol=1e-5, rtol=1e-5)


def test_a_waveform_model(tmp_path: Path) -> None:
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(8, 8),
        conv_kernel=(10, 3), conv_stride=(5, 2), num_feat_extract_layers=2, num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    torch.manual_seed(0)
    Wav2Vec2Model(config).save_pretrained(tmp_path / "wave")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "wave")
    audio = Audio(str(tmp_path / "wave"), lora=2)
    rows = [{"audio": (wave, 16000)} for wave in sounds()]
    model, moved = fitted(Trainer({"audio": audio}, [Pair("audio", "audio")], rows, train=TRAIN, head=Head(layers=0)))
    assert moved
    assert all("lora_" in name for name in moved)
    folder = model.save(tmp_path / "model")
    cells = [row["audio"] for row in rows]
    torch.testing.assert_close(load(folder, device="cpu").embed(audio=cells), model.embed(audio=cells))


def test_a_net_of_timm(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    image = Image("timm/test_vit", size=160, pretrained=False, lora=2)
    rows = [{"image": media.pixels(i)} for i in range(4)]
    trainer = Trainer({"image": image}, [Pair("image", "image")], rows, train=TRAIN, head=Head(layers=0))
    model, moved = fitted(trainer)
    assert moved == updates(trainer)
    out = export(model.save(tmp_path / "model"), "timm", tmp_path / "out")
    net = timm.create_model("test_vit", num_classes=0, checkpoint_path=out / "model.safetensors").eval()
    encoder = model.towers.encoder("image")
    batch = image.collate([image.load(row["image"]) for row in rows])
    pictures = (image.view(batch, None).get("pixels") - encoder.mean) / encoder.std
    with torch.no_grad():
        torch.testing.assert_close(net(pictures), encoder(batch), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Text("words", lora=4).build(), "lora=4: it must be 0 for encoder 'words'"),
        (lambda: Image(lora=4).build(), "lora=4: it must be 0 unless the encoder is one of Hugging Face or timm, not"),
        (lambda: Image("hf/a/b", lora=-1), "lora=-1: it must be a whole number, 0 or more"),
        (lambda: Audio("small", lora=4).build(), "lora=4: it must be 0 unless the encoder is one of Hugging Face"),
        (lambda: Audio("a/b", lora=-1), "lora=-1: it must be a whole number, 0 or more"),
        (lambda: Image("timm/resnet10t", pretrained=False, lora=4).build(), "a ResNet has no linear layers to update"),
    ],
)
def test_where_it_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_without_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multicl.modalities.lora.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"text setting lora=4 needs peft: pip install 'multicl\[peft\]'"):
        Text("small", width=16, heads=2, lora=4).build()
