"""Heads, temperature and bias between a pair of towers and a two-tower model of transformers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from two_tower_models import saved

from multicl import Head, InfoNCE, Pair, Sigmoid, two_towers
from multicl.modalities.audio import Audio
from multicl.modalities.image import Image
from multicl.modalities.text import Text
from multicl.towers import Towers
from multicl.types import InputError


def towers_of(folder: Path, objective: Any, head: Head, **text: Any) -> Towers:
    settings = {"pooling": "pooler", "max_tokens": 20, **text}
    nodes = {"image": Image(str(folder), size=16), "text": Text(str(folder), **settings)}
    return Towers(nodes, [Pair("image", "text", objective)], head)


def joined(towers: Towers) -> Any:
    halves = [towers.modalities[node].half(towers.encoder(node)) for node in ("image", "text")]  # type: ignore[attr-defined]
    return two_towers.joined(towers, towers.pairs[0], halves[0].config, (halves[0], halves[1]))


@pytest.mark.parametrize(
    ("objective", "scale"),
    [
        (InfoNCE(0.05), 1 / 0.05),
        (InfoNCE(0.05, final_temperature=0.2), 1 / 0.2),
        (InfoNCE(0.05, learnable=True), math.exp(3.0)),
        (Sigmoid(), math.exp(3.0)),
    ],
)
def test_the_temperature_is_the_runs(objective: Any, scale: float, tmp_path: Path) -> None:
    folder = saved(tmp_path, "clip")
    towers = towers_of(folder, objective, Head(dim=12, layers=1, bias=False))
    two_towers.begin(towers, towers.pairs[0], transformers.CLIPModel.from_pretrained(folder))
    assert float(joined(towers).logit_scale.detach().exp()) == pytest.approx(scale, rel=1e-5)


def test_without_a_bias_of_ours_there_is_none(tmp_path: Path) -> None:
    folder = saved(tmp_path, "siglip")
    towers = towers_of(folder, InfoNCE(0.05), Head(layers=0), fill=True)
    assert float(joined(towers).logit_bias.detach()) == 0
    towers = towers_of(folder, Sigmoid(bias=-3.0), Head(layers=0), fill=True)
    assert float(joined(towers).logit_bias.detach()) == -3


def test_clap_has_one_temperature_for_both_directions(tmp_path: Path) -> None:
    folder = saved(tmp_path, "clap")
    nodes = {
        "audio": Audio(str(folder), rate=8000, max_seconds=1),
        "text": Text(str(folder), pooling="pooler", max_tokens=18),
    }
    towers = Towers(nodes, [Pair("audio", "text", InfoNCE(learnable=True))], Head(dim=12, layers=2, hidden=12))
    two_towers.begin(towers, towers.pairs[0], transformers.ClapModel.from_pretrained(folder))
    objective: Any = towers.objectives["audio-text"]
    assert float(objective.log_scale.detach()) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (Head(dim=12, layers=1), r"the head of 'image' is Linear.*bias=True.*projection of a CLIPModel is.*bias=False"),
        (Head(dim=12, layers=2), "the head of 'image' is Linear"),
        (Head(dim=8, layers=1, bias=False), "keep the checkpoint's head and encoders"),
        (Head(layers=0), "the head of 'image' is none"),
    ],
)
def test_another_head_is_refused_both_ways(head: Head, message: str, tmp_path: Path) -> None:
    folder = saved(tmp_path, "clip")
    towers = towers_of(folder, InfoNCE(), head)
    with pytest.raises(InputError, match=message):
        two_towers.begin(towers, towers.pairs[0], transformers.CLIPModel.from_pretrained(folder))
    with pytest.raises(InputError, match=message):
        joined(towers)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling": "mean"}, "not pooling='mean'"),
        ({"encoder": "words", "pooling": "mean"}, "a WordEncoder is not the text half"),
    ],
)
def test_a_text_that_pools_otherwise_is_no_half(settings: Any, message: str, tmp_path: Path) -> None:
    text = Text(**{"encoder": str(saved(tmp_path, "clip")), "max_tokens": 20, **settings})
    with pytest.raises(InputError, match=message):
        text.half(text.build())


def test_pictures_that_clip_does_not_read_are_no_half(tmp_path: Path) -> None:
    folder = str(saved(tmp_path, "clip"))
    for image in (Image(folder, size=(16, 32)), Image(folder, size=16, channels="L")):
        with pytest.raises(InputError, match="square RGB pictures"):
            image.half(image.build())
    image = Image(folder, size=32)
    half = image.half(image.build())
    assert "interpolate_pos_encoding=True" in half.usage
    assert torch.is_tensor(half.processor()(images=[torch.zeros(3, 40, 50)], return_tensors="pt")["pixel_values"])
