"""Weights of transformers, loaded without its reports; what is lacking and matters is said in a line."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import hf
import huggingface_hub
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file, save_model
from transformers.utils import logging as theirs

from multicl.modalities.audio import Audio
from multicl.modalities.image import Image
from multicl.modalities.pretrained import load, locate, quiet, warn_of_absent
from multicl.modalities.text import Text
from multicl.recipes import clip
from multicl.types import InputError

if TYPE_CHECKING:
    from pathlib import Path


def test_what_it_finds_is_told_and_not_reported(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = hf.bert(tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["pooler.dense.weight"]
    save_file({**weights, "head.weight": torch.zeros(2)}, folder / "model.safetensors", {"format": "pt"})
    before = theirs.get_verbosity()
    capfd.readouterr()
    with caplog.at_level(logging.WARNING):
        model, absent = load(str(folder))
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""
    assert theirs.get_verbosity() == before
    assert isinstance(model, transformers.BertModel)
    assert absent == {id(model.pooler.dense.weight)}
    warn_of_absent("a net", model.encoder, absent)
    assert caplog.text == ""
    warn_of_absent("a net", model, absent)
    assert "a net lacks 1 weights of its architecture, initialised at random: pooler.dense.weight" in caplog.text


def test_quiet_leaves_levels_and_bars_as_they_were() -> None:
    before, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    with quiet():
        assert theirs.get_verbosity() == logging.ERROR
        assert not theirs.is_progress_bar_enabled()
    assert (theirs.get_verbosity(), theirs.is_progress_bar_enabled()) == (before, bars)


def test_weights_that_come_as_views_of_a_whole_can_be_saved(tmp_path: Path) -> None:
    config = transformers.Dinov2Config(**hf.SIZE, image_size=32, patch_size=8, use_swiglu_ffn=True)
    expected = transformers.Dinov2Model(config)
    expected.save_pretrained(tmp_path)
    model, _ = load(str(tmp_path))
    assert all(p.untyped_storage().nbytes() == p.nbytes for p in model.parameters())
    save_model(model, str(tmp_path / "again.safetensors"))
    for name, p in expected.named_parameters():
        torch.testing.assert_close(model.get_parameter(name), p)


def test_a_text_model_whose_files_are_cut_is_saved(tmp_path: Path) -> None:
    if not hasattr(transformers, "NomicBertConfig"):
        pytest.skip("these transformers have no such model")
    config = transformers.NomicBertConfig(**hf.SIZE, vocab_size=16, pad_token_id=1)
    transformers.NomicBertModel(config).save_pretrained(tmp_path)
    hf.word_level().save_pretrained(tmp_path)
    encoder = Text(str(tmp_path), max_tokens=16).build()
    save_model(encoder, str(tmp_path / "again.safetensors"))


@pytest.mark.parametrize(
    "asked",
    [
        lambda: Image("hf/some-org/some-model").build(),
        lambda: Text("some-org/some-model").build(),
        lambda: Audio("some-org/some-model").build(),
        lambda: clip.Recipe(checkpoint="some-org/some-model"),
    ],
)
def test_without_a_network_the_hub_is_asked_once(asked: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by transformers, which would ask again and again for half a minute."""
    questions = []

    def model_info(*_: object, **__: object) -> None:
        questions.append("?")
        raise ConnectionError("no network")

    def loader(*_: object, local_files_only: bool = False, **__: object) -> None:
        assert local_files_only
        raise OSError("never downloaded")

    locate.cache_clear()
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    for kind in (transformers.AutoConfig, transformers.AutoTokenizer, transformers.AutoImageProcessor):
        monkeypatch.setattr(kind, "from_pretrained", loader)
    with pytest.raises(InputError, match=r"some-org/some-model.*never downloaded"):
        asked()
    assert len(questions) == 1
    locate.cache_clear()
