"""Fine-tuning models of transformers: what they embed before the first step is what transformers embeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hf
import media
import numpy as np
import pytest
import torch
import transformers
from PIL import Image as Picture

import multicl
from multicl.run import parse

TEXTS = ["a cat", "the dog sat on a mat", "b c d", "cat cat dog"]
VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
          "image_size": 16, "patch_size": 8}  # fmt: skip
TEXT = {"vocab_size": 16, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 20, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}  # fmt: skip


def saved(folder: Path, kind: str) -> Path:
    """A small model of that kind, its tokenizer and its processor's settings."""
    torch.manual_seed(0)
    if kind == "clip":
        config: Any = transformers.CLIPConfig(
            text_config=TEXT, vision_config=VISION, projection_dim=12, logit_scale_init_value=3.0
        )
        model: Any = transformers.CLIPModel(config)
    else:
        config = transformers.SiglipConfig(text_config={**TEXT, "projection_size": 16}, vision_config=VISION)
        model = transformers.SiglipModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
        model.logit_scale.fill_(3.0 if kind == "clip" else 4.7)
        if kind == "siglip":
            model.logit_bias.fill_(-7.0)
    model.save_pretrained(folder)
    hf.word_level().save_pretrained(folder)
    size = {"height": 16, "width": 16}
    settings = {"do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.3, 0.2, 0.25], "size": size}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def theirs(folder: Path, kind: str, texts: list[str], pictures: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """[N, D] unit vectors of texts and of pictures [16, 16, 3] uint8, by transformers alone."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    fill = {"padding": "max_length", "max_length": 20} if kind == "siglip" else {"padding": True}
    batch = dict(tokenizer(texts, return_tensors="pt", truncation=True, **fill))
    batch.pop("token_type_ids", None)
    if kind == "siglip":
        batch.pop("attention_mask")
    mean, std = np.array([0.4, 0.5, 0.6]), np.array([0.3, 0.2, 0.25])
    pixels = torch.tensor(np.stack([(p / 255 - mean) / std for p in pictures]), dtype=torch.float32).permute(0, 3, 1, 2)
    with torch.no_grad():
        text = model.get_text_features(**batch).pooler_output
        image = model.get_image_features(pixel_values=pixels).pooler_output
    return torch.nn.functional.normalize(text, dim=1), torch.nn.functional.normalize(image, dim=1)


@pytest.mark.parametrize(("kind", "recipe"), [("clip", "clip"), ("siglip", "siglip")])
def test_before_the_first_step_it_is_the_checkpoint(
    kind: str, recipe: str, recipe_of: Any, tmp_path: Path, data: Path
) -> None:
    folder = saved(tmp_path / "model", kind)
    words = ["--from", str(folder), "--data.path", str(data), "--train.batch-size", "8", "--train.steps", "2"]
    settings = parse(recipe_of(recipe), words)
    assert (settings.train.lr, settings.image.weak.flip, settings.image.weak.crop) == (1e-5, 0.0, (0.9, 1.0))
    assert parse(recipe_of(recipe), [*words, "--train.lr", "3e-4"]).train.lr == 3e-4
    trainer = settings.trainer()
    pictures = [media.pixels(i) for i in range(8)]
    texts, images = theirs(folder, kind, TEXTS, pictures)
    torch.testing.assert_close(trainer.model.embed(text=TEXTS), texts, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        trainer.model.embed(image=[Picture.fromarray(p) for p in pictures]), images, atol=1e-5, rtol=0
    )
    objective: Any = trainer.towers.objectives["image-text"]
    assert float(objective.log_scale.detach()) == pytest.approx(3.0 if kind == "clip" else 4.7)
    trainer.fit()  # a scale above 100 is not cut
    assert float(objective.log_scale.detach()) == pytest.approx(3.0 if kind == "clip" else 4.7, abs=1e-3)
    if kind == "siglip":
        assert float(objective.bias.detach()) == pytest.approx(-7.0, abs=1e-3)


def test_a_run_from_a_checkpoint_says_where_it_began_and_is_loaded_without_it(
    tmp_path: Path, launched: Any, data: Path
) -> None:
    folder = saved(tmp_path / "model", "clip")
    flags = ["--from", str(folder), "--run", str(tmp_path / "run"), "--train.evaluate-every", "2", "--train.best",
             "image_to_text_recall@1", "--image.encoder", "small", "--text.encoder", "words", "--text.heads", "4",
             "--train.lr", "1e-3", "--image.size", "64"]  # fmt: skip
    said = launched("clip", *flags)
    assert said.code == 0, said.err
    lines = [line.split() for line in said.out.splitlines()]
    first = lines.index(["before", "the", "first", "step"])
    table = lines.index(["base", "last", "best", "95", "%", "interval"])
    assert lines[first + 1][0] == lines[table + 1][0] == "image_to_text_recall@1"
    assert lines[first + 1][1] == lines[table + 1][1]  # what it began with
    _, _, _, best, low, high = lines[table + 1]
    assert float(low) <= float(best) <= float(high)
    assert float(best) == pytest.approx(said.result["image_to_text_recall@1"], abs=1e-4)
    assert all(line[0] != "step" for line in lines[:first] if line)
    folder.rename(tmp_path / "gone")
    again = multicl.load(tmp_path / "run", device="cpu")
    assert again.embed(text=TEXTS).shape == (4, 12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: str(path / "none" / "of" / "these"), "there is no such model to be had"),
        (lambda path: str(hf.bert(path / "bert")), "a BertConfig is no pair of a text and an image encoder"),
    ],
)
def test_what_is_no_such_checkpoint_is_refused(make: Any, message: str, launched: Any, tmp_path: Path) -> None:
    assert message in launched("clip", "--from", make(tmp_path), "--image.size", "64").refusal
