"""Folders of sentence-transformers as starting encoders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hf
import pytest
import torch

from multicl.modalities.text import Text
from multicl.types import InputError


def pooling_of(folder: Path, **settings: Any) -> str:
    return Text(str(folder), max_tokens=16, **settings).build(weights=False).pooling  # type: ignore[return-value]


def test_a_prompt_that_the_files_have_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = hf.as_sentence(hf.bert(tmp_path), {"pooling_mode": "mean"})
    settings = {"prompts": {"query": "query: ", "none": ""}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    Text(str(folder), max_tokens=16).build()
    assert "its files put 'query: ' before every text: set it as prompt=" in caplog.text
    caplog.clear()
    Text(str(folder), max_tokens=16, prompt="query: ").build()
    (folder / "config_sentence_transformers.json").write_text(json.dumps({**settings, "default_prompt_name": None}))
    Text(str(folder), max_tokens=16).build()
    assert not caplog.text


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True, "word_embedding_dimension": 16}, "mean"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "cls", "embedding_dimension": 16}, "cls"),
        ({"pooling_mode": ["lasttoken"]}, "last"),
        ({}, "mean"),
    ],
)
def test_pooling_is_read_from_the_files(tmp_path: Path, theirs: dict[str, Any], ours: str) -> None:
    folder = hf.as_sentence(hf.bert(tmp_path / "m"), theirs)
    assert pooling_of(folder) == ours
    assert pooling_of(folder, pooling="first_last") == "first_last"  # what is asked for comes first


def test_it_is_kept_in_a_saved_model(tmp_path: Path) -> None:
    text = Text(str(hf.as_sentence(hf.bert(tmp_path / "m"), {"pooling_mode": "cls"})), max_tokens=16)
    text.save(tmp_path / "saved")
    again = text.restored(tmp_path / "saved")
    assert again.build(weights=False).pooling == "cls"  # type: ignore[union-attr]
    plain = Text(str(hf.bert(tmp_path / "plain")), max_tokens=16)
    plain.save(tmp_path / "too")
    assert plain.restored(tmp_path / "too").build(weights=False).pooling == "mean"  # type: ignore[union-attr]


def test_what_comes_after_is_left_out_with_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = hf.as_sentence(hf.bert(tmp_path / "m"), {"pooling_mode": "mean"}, ["Dense", "Normalize"])
    assert pooling_of(folder) == "mean"
    assert "the modules after its pooling are left out: Dense" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: hf.as_sentence(f, {"pooling_mode": "max"}), r"pools by max.*give pooling="),
        (lambda f: hf.as_sentence(f, {"pooling_mode": ["cls", "mean"]}), "pools by cls and mean"),
        (lambda f: hf.as_sentence(f, {}, path="0_Transformer"), "is in its folder '0_Transformer'"),
        (lambda f: (f / "modules.json").write_text("{"), r"modules\.json is not JSON"),
        (lambda f: (f / "modules.json").write_text("[3]"), r"modules\.json is damaged"),
        (lambda f: (f / "modules.json").write_text(json.dumps([{"type": "a.BoW", "path": ""}])), r"made of \['BoW'\]"),
    ],
)
def test_what_is_not_known_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    folder = hf.bert(tmp_path / "m")
    change(folder)
    with pytest.raises(InputError, match=message):
        pooling_of(folder)
    assert pooling_of(folder, pooling="mean") == "mean"


@pytest.mark.filterwarnings("ignore")  # what their imports warn of is theirs
def test_starts_where_sentence_transformers_is(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    folder = hf.as_sentence(hf.bert(tmp_path / "m"), {"pooling_mode_cls_token": True, "word_embedding_dimension": 16})
    theirs = library.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    theirs.save(str(tmp_path / "theirs"))  # as their newest version writes it
    expected = theirs.encode(hf.TEXTS, convert_to_tensor=True, show_progress_bar=False)
    for place in (folder, tmp_path / "theirs"):
        text = Text(str(place), max_tokens=16)
        with torch.no_grad():
            found = text.build().eval()(text.collate([text.load(raw, None) for raw in hf.TEXTS]))
        torch.testing.assert_close(torch.nn.functional.normalize(found, dim=1), expected, atol=1e-5, rtol=0)
