"""Exported folders, loaded by the libraries that they are for."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hf
import pytest
import torch
import two_tower_models
from safetensors.torch import load_file
from torch.nn.functional import normalize
from toys import Vectors
from transformers import AutoModel, AutoTokenizer

from multicl import Head, Model, Pair, cli, load
from multicl.commands import arguments
from multicl.export import FORMS, export
from multicl.modalities.text import Text
from multicl.towers import Towers
from multicl.types import InputError

peer = pytest.mark.filterwarnings("ignore")  # what their imports warn of is theirs
SMALL = Text("small", width=16, layers=1, heads=2, max_tokens=24)
MORE = [*hf.TEXTS, "中文 🚀 é", "<|cls|> is no token"]
Saved = Callable[..., Path]


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    """A model of one node, `text`, in a folder."""

    def make(text: Text, head: Head | None = None, space: str | None = None, **nodes: Any) -> Path:
        torch.manual_seed(0)
        pairs = [Pair("text", "text"), *(Pair("text", node) for node in nodes)]
        model = Model(Towers({"text": text, **nodes}, pairs, head or Head(dim=4)), space)
        with torch.no_grad():  # as if trained: no bias is zero, no norm is one
            for parameter in model.towers.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
        return model.save(tmp_path / "model", {"recall": 0.51234})

    return make


def bert(tmp_path: Path, **settings: Any) -> Text:
    return Text(str(hf.bert(tmp_path / "bert")), max_tokens=16, **settings)


def gpt2(tmp_path: Path, **settings: Any) -> Text:
    return Text(str(hf.gpt2(tmp_path / "gpt2")), max_tokens=16, **settings)


@pytest.mark.parametrize("to", ["transformers", "sentence-transformers"])
def test_a_model_of_16_bits_is_exported_in_32(saved: Saved, tmp_path: Path, to: Any) -> None:
    model = load(saved(SMALL), device="cpu")
    model.towers.bfloat16()
    folder = export(model.save(tmp_path / "narrow"), to, tmp_path / "out")
    for path in folder.rglob("*.safetensors"):
        assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float32}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_who_may_read_the_card_may_read_the_weights(saved: Saved, tmp_path: Path) -> None:
    folder = saved(SMALL)
    assert export(folder, "transformers", str(tmp_path / "named")) == (tmp_path / "named").resolve()
    before = os.umask(0o027)
    try:
        out = export(folder, "transformers", tmp_path / "out")
    finally:
        os.umask(before)
    assert {oct(path.stat().st_mode & 0o777) for path in out.rglob("*") if path.is_file()} == {"0o640"}


@peer
@pytest.mark.parametrize(
    ("make", "settings", "space", "head"),
    [
        (bert, {}, None, None),
        (bert, {"pooling": "cls"}, None, None),
        (bert, {"pooling": "pooler"}, "joint", Head(dim=4, layers=1)),
        (bert, {"pooling": "last", "prompt": "query : "}, None, None),
        (bert, {}, "joint", Head(dim=4, layers=1)),
        (bert, {"pooling": "cls"}, "joint", Head(dim=4, layers=3, hidden=5)),
        (bert, {}, "joint", Head(layers=0)),
        (gpt2, {"pooling": "last"}, None, None),
        (lambda _: SMALL, {}, None, None),
        (lambda _: replace(SMALL, pooling="cls"), {}, "joint", Head(dim=4)),
    ],
)
def test_sentence_transformers_gives_our_vectors(
    make: Any, settings: Any, space: str | None, head: Head | None, saved: Saved, tmp_path: Path
) -> None:
    library = pytest.importorskip("sentence_transformers")
    folder = saved(make(tmp_path, **settings), head, space)
    out = export(folder, "sentence-transformers", tmp_path / "out")
    expected = load(folder, device="cpu").embed(text=MORE)
    assert expected.std(0).min() > 1e-3  # texts differ
    theirs = library.SentenceTransformer(str(out), device="cpu", local_files_only=True)
    found = theirs.encode(MORE, convert_to_tensor=True, batch_size=3, show_progress_bar=False)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@peer
def test_updates_of_low_rank_in_the_pooler_are_merged(saved: Saved, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    library = pytest.importorskip("sentence_transformers")
    folder = saved(bert(tmp_path, pooling="pooler", lora=2))
    theirs = library.SentenceTransformer(str(export(folder, "sentence-transformers", tmp_path / "out")), device="cpu")
    found = theirs.encode(MORE, convert_to_tensor=True, show_progress_bar=False)
    torch.testing.assert_close(found, load(folder, device="cpu").embed(text=MORE), atol=1e-5, rtol=0)


@pytest.mark.parametrize("make", [bert, gpt2, lambda _: SMALL])
def test_transformers_gives_our_features(make: Any, saved: Saved, tmp_path: Path) -> None:
    folder = saved(make(tmp_path), space="joint")
    out = export(folder, "transformers", tmp_path / "out")
    tokenizer, model = AutoTokenizer.from_pretrained(out), AutoModel.from_pretrained(out).eval()
    batch = tokenizer(MORE, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        states, mask = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
    expected = load(folder, device="cpu").embed(text=MORE, space=None, normalize=False)
    torch.testing.assert_close((states * mask).sum(1) / mask.sum(1), expected, atol=1e-5, rtol=1e-5)
    assert "the mean of `last_hidden_state`" in (out / "README.md").read_text()


def left(tmp_path: Path, prompt: str = "") -> Text:
    """Its tokenizer keeps the end of a long text."""
    folder = hf.bert(tmp_path / "bert")
    AutoTokenizer.from_pretrained(folder, truncation_side="left").save_pretrained(folder)
    return Text(str(folder), max_tokens=8, prompt=prompt)


@pytest.mark.parametrize(
    ("form", "make"),
    [
        ("onnx", lambda path: left(path, prompt="query : ")),  # at once: an export takes 5 s
        ("transformers", left),
        ("transformers", lambda path: bert(path, prompt="query : ")),
    ],
    ids=["onnx", "transformers-left", "transformers-prompt"],
)
def test_the_program_of_a_card_reads_texts_as_the_encoder_does(
    form: Any, make: Any, saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form == "onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    folder = saved(make(tmp_path))
    out = export(folder, form, tmp_path / "out")
    (code,) = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    for text in MORE:
        names: dict[str, Any] = {}
        monkeypatch.chdir(tmp_path)
        exec(code.replace("this-folder", str(out)).replace('["two words"]', repr([text])), names)
        expected = load(folder, device="cpu").embed(text=[text], space=None)
        if form == "onnx":
            found = torch.as_tensor(names["vectors"])
        else:
            found = normalize(names["out"].last_hidden_state.mean(1).detach(), dim=1)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("form", ["sentence-transformers", "transformers", "onnx"])
def test_a_text_that_is_filled_up_has_no_form_of_its_own(form: Any, saved: Saved, tmp_path: Path) -> None:
    folder = saved(bert(tmp_path, fill=True))
    with pytest.raises(InputError, match="Forms that fit: none"):
        export(folder, form, tmp_path / "out")


@pytest.mark.parametrize(("make", "space"), [(bert, "joint"), (lambda _: SMALL, None)])
def test_onnx_gives_our_vectors(make: Any, space: str | None, saved: Saved, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = saved(make(tmp_path), space=space)
    out = export(folder, "onnx", tmp_path / "out")
    session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    tokenizer = AutoTokenizer.from_pretrained(out)
    expected = load(folder, device="cpu").embed(text=MORE)
    for texts, rows in ((MORE, expected), (MORE[:1], expected[:1])):
        batch = tokenizer(texts, padding=True, truncation=True, return_tensors="np")
        (found,) = session.run(None, {name: batch[name] for name in ("input_ids", "attention_mask")})
        torch.testing.assert_close(torch.from_numpy(found), rows, atol=1e-4, rtol=0)


def test_onnx_needs_its_libraries(saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multicl.modalities.text.export.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'multicl\[onnx\]'"):
        export(saved(SMALL), "onnx", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


@peer
def test_there_and_back(saved: Saved, tmp_path: Path) -> None:
    folder = saved(bert(tmp_path, pooling="cls"))
    out = export(folder, "sentence-transformers", tmp_path / "out")
    again = Text(str(out), max_tokens=16)
    encoder = again.build().eval()
    assert encoder.pooling == "cls"  # type: ignore[union-attr]
    with torch.no_grad():
        found = encoder(again.collate([again.load(text, None) for text in hf.TEXTS]))
    expected = load(folder, device="cpu").embed(text=hf.TEXTS, normalize=False)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_command_writes_beside_the_model_and_never_over_a_folder(
    saved: Saved, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved(SMALL)
    cli.main(["export", str(folder), "--to", "sentence-transformers"])
    out = folder / "sentence-transformers"
    assert capsys.readouterr().out == f"written: {out}\n"
    assert [m["type"].rpartition(".")[2] for m in json.loads((out / "modules.json").read_text())] == [
        "Transformer", "Pooling", "Normalize",
    ]  # fmt: skip
    card = (out / "README.md").read_text()
    assert 'SentenceTransformer("this-folder")' in card
    assert "| recall | 0.5123 |" in card
    with pytest.raises(SystemExit):
        cli.main(["export", str(folder), "--to", "sentence-transformers"])
    assert "exists already: give another --out" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"cannot be written: .* or give another --out"):
        export(folder, "sentence-transformers", folder / "config.json" / "a")
    cli.main(["export", str(folder), "--to", "transformers", "--out", str(tmp_path / "a" / "b"), "--node", "text"])
    assert (tmp_path / "a" / "b" / "model.safetensors").is_file()


def test_nodes_of_one_tower_are_one_encoder(saved: Saved, tmp_path: Path) -> None:
    texts = [replace(SMALL, tower="t"), replace(SMALL, tower="t", column="other", prompt="passage: ")]
    folder = saved(texts[0], other=texts[1])
    export(folder, "sentence-transformers", tmp_path / "one")
    export(folder, "sentence-transformers", tmp_path / "two", node="other")
    prompts = [json.loads((tmp_path / n / "config_sentence_transformers.json").read_text()) for n in ("one", "two")]
    assert [p["default_prompt_name"] for p in prompts] == [None, "text"]
    assert prompts[1]["prompts"] == {"text": "passage: "}


@pytest.mark.parametrize(
    ("nodes", "options", "message"),
    [
        ({"text": Text("words", width=16)}, {}, r"cannot hold this model \(text: WordEncoder\)"),
        ({"text": Vectors()}, {}, r"\(text: Net\)\. Forms that fit: none; use multicl"),
        ({"text": SMALL, "other": SMALL}, {}, r"name one of \['text', 'other'\] with --node"),
        (
            {"text": SMALL, "other": Vectors()},
            {"node": "other"},
            r"\(other: Net\)\. Forms that fit: --to sent",
        ),
        ({"text": SMALL}, {"node": "texts"}, r"no node is named 'texts'; there are \['text'\]"),
        (
            {"text": SMALL},
            {"space": "own"},
            r"'text' has no space 'own'; it has \['joint'\] and features \(in Python: None\)",
        ),
        ({"text": SMALL}, {"to": "transformers", "space": "joint"}, "no place for a head"),
        ({"text": SMALL}, {"to": "tf"}, "--to must be one of"),
        ({"text": replace(SMALL, pooling="first_last")}, {}, "has no pooling 'first_last'"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    nodes: dict[str, Any], options: dict[str, Any], message: str, saved: Saved, tmp_path: Path
) -> None:
    folder = saved(**nodes)
    with pytest.raises(InputError, match=message):
        export(folder, **{"to": "sentence-transformers", "out": tmp_path / "out", **options})
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def test_the_command_line_names_every_form() -> None:
    assert tuple(arguments.TO) == FORMS


def test_a_head_with_norms_is_refused(saved: Saved, tmp_path: Path) -> None:
    folder = saved(SMALL, Head(dim=4, norm="layer"), "joint")
    with pytest.raises(InputError, match=r"no LayerNorm in a head.*--space features"):
        export(folder, "sentence-transformers", tmp_path / "out")


def test_the_text_half_of_clap_is_exported_as_the_class_that_loads_it(saved: Saved, tmp_path: Path) -> None:
    text = Text(str(two_tower_models.saved(tmp_path / "clap", "clap")), max_tokens=16)
    folder = saved(text, Head(layers=0))
    with pytest.raises(
        InputError, match=r"cannot hold this model .*Forms that fit: --to transformers \(text\), --to onnx"
    ):
        export(folder, "sentence-transformers", tmp_path / "sentences")
    out = export(folder, "transformers", tmp_path / "out")
    (code,) = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace("this-folder", str(out)), names)
    found = names["out"].last_hidden_state.mean(1)
    torch.testing.assert_close(found, load(folder).embed(text=["two words"], normalize=False), atol=1e-5, rtol=1e-5)
