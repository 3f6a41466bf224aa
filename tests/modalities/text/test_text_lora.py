"""LoRA: what trains, what is saved, and what other libraries get."""

from __future__ import annotations

from pathlib import Path

import hf
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from multicl import Head, InputError, Pair, Train, Trainer, load
from multicl.export import export
from multicl.modalities.text import Text

pytest.importorskip("peft")


def test_updates_alone_train_are_saved_and_exported(tmp_path: Path) -> None:
    plain = Text(str(hf.bert(tmp_path / "bert")), max_tokens=16)
    text = Text(plain.encoder, max_tokens=16, lora=2)
    rows = [{"text": words} for words in hf.TEXTS[:4]]
    train = Train(batch_size=4, steps=3, lr=1e-2, chunk_size=2)
    trainer = Trainer({"text": text}, [Pair("text", "text")], rows, train=train, head=Head(layers=0))
    before = {name: p.detach().clone() for name, p in trainer.towers.named_parameters()}
    expected = trainer.model.embed(text=hf.TEXTS)
    encoder = plain.build().eval()
    with torch.no_grad():
        found = encoder(plain.collate([plain.load(t, None) for t in hf.TEXTS]))
    torch.testing.assert_close(expected, torch.nn.functional.normalize(found, dim=1), atol=1e-5, rtol=1e-5)
    model = trainer.fit()
    moved = {name for name, p in trainer.towers.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if "lora_" in name}
    assert len(moved) == 2 * 2 * 6  # A and B of query, key, value, and the three maps after, in two layers
    trained = model.embed(text=hf.TEXTS)
    assert (trained - expected).abs().max() > 1e-3
    folder = model.save(tmp_path / "model")
    torch.testing.assert_close(load(folder, device="cpu").embed(text=hf.TEXTS), trained)
    out = export(folder, "transformers", tmp_path / "out")
    tokenizer, theirs = AutoTokenizer.from_pretrained(out), AutoModel.from_pretrained(out).eval()
    batch = tokenizer(hf.TEXTS, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        states, mask = theirs(**batch).last_hidden_state, batch["attention_mask"][..., None]
    pooled = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)
    torch.testing.assert_close(pooled, trained, atol=1e-5, rtol=1e-5)


def test_where_it_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"lora=4: it must be 0 for encoder 'words'"):
        Text("words", lora=4)
    monkeypatch.setattr("multicl.modalities.text.lora.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'multicl\[peft\]'"):
        Text("small", width=16, heads=2, lora=4).build()
