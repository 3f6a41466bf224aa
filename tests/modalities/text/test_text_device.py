"""Views and encoders on a GPU, which is pretended: the CPU's tokens and vectors, and nothing refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import hf
import pytest
import torch
from pretended import Gpu, same

from multicl.modalities.text import Text
from multicl.types import Batch

TEXTS = ["hello world, how are you"[: 3 + 4 * i] for i in range(6)]


def batch_of(text: Text, texts: list[str] = TEXTS) -> Batch:
    return text.collate([text.load(line, None) for line in texts])


@pytest.mark.parametrize("settings", [{"deletion": 0.3}, {"crop": 0.5}, {"cutoff": 0.3}], ids=str)
def test_views_wait_once_for_their_longest_row(settings: dict[str, Any], gpu: Gpu) -> None:
    text = Text("small", **settings)
    batch, seeds = batch_of(text), torch.arange(6) * 1000
    found = text.view(batch.to("cuda", non_blocking=True), seeds)
    assert dict(gpu.waits) == {"multicl/batch.py:Batch.trimmed": 1}
    wanted = text.view(batch, seeds)
    for name in wanted:
        same(found.get(name), wanted.get(name))


SMALL: dict[str, Any] = {"width": 16, "layers": 1, "heads": 2}
NETS: dict[str, dict[str, Any]] = {
    "small": SMALL, "cls": SMALL | {"pooling": "cls"}, "last": SMALL | {"pooling": "last"},
    "words": {"encoder": "words", "width": 16},
}  # fmt: skip


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("settings", NETS.values(), ids=NETS)
def test_encoders_are_the_cpus(settings: dict[str, Any], low: bool, gpu: Gpu) -> None:
    text = Text(**{"encoder": "small", **settings})
    check(text, batch_of(text), low, gpu)


@pytest.mark.parametrize(("make", "looks"), [(hf.bert, 1), (hf.gpt2, 6)])
def test_models_of_the_hub_are_the_cpus(make: Any, looks: int, tmp_path: Path, gpu: Gpu) -> None:
    text = Text(str(make(tmp_path)), max_tokens=16, pooling="mean")
    check(text, batch_of(text, hf.TEXTS), True, gpu, looks)


def check(text: Text, batch: Batch, low: bool, gpu: Gpu, looks: int = 1) -> None:
    """With dropout, which draws from one generator on both; transformers looks at masks: is there any padding?"""
    encoder = text.build().train()
    there, moved = copy.deepcopy(encoder).to("cuda"), batch.to("cuda", non_blocking=True)
    torch.manual_seed(0)
    gpu.clear()
    with torch.autocast("cuda", torch.bfloat16, enabled=low):
        found = there(moved)
    found.square().sum().backward()
    assert set(gpu.waits) <= {"modalities/text/encoders.py:TransformerEncoder.pooled"}
    assert sum(gpu.waits.values()) <= looks
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        same(found, encoder(batch), 1e-5)
