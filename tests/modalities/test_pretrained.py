"""Weights of transformers, loaded without its reports; what is lacking and matters is said in a line."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import hf
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.utils import logging as theirs

from multicl.modalities.pretrained import load, quiet, warn_of_absent

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


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
    assert "a net lacks 1 weights of its architecture, which begin at random: pooler.dense.weight" in caplog.text


def test_quiet_leaves_levels_and_bars_as_they_were() -> None:
    before, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    with quiet():
        assert theirs.get_verbosity() == logging.ERROR
        assert not theirs.is_progress_bar_enabled()
    assert (theirs.get_verbosity(), theirs.is_progress_bar_enabled()) == (before, bars)
