"""Settings and cells: what a command line and a table may hold."""

import pickle
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import torch
import tyro
from hypothesis import given, settings
from hypothesis import strategies as st

from multicl.modalities.text import Text
from multicl.types import BadSample, InputError, Modality

OFFLINE = [Text("small", max_tokens=32), Text("words", max_tokens=8)]


WORDS = Text("words", max_tokens=16)


@dataclass(frozen=True)
class Recipe:
    text: Text = WORDS


def test_is_a_modality() -> None:
    assert isinstance(Text(), Modality)


def test_one_text_is_told_from_several() -> None:
    assert Text().single("two words")
    assert not any(Text().single(values) for values in (["two words"], ("a", "b"), np.array(["two words"])))


def test_import_is_instant() -> None:
    code = "import sys, typing, multicl.modalities.text as t; typing.get_type_hints(t.Text); t.Text(max_tokens=9)"
    code += "; print([m for m in ('torch', 'transformers', 'tokenizers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_type_hints_need_no_torch() -> None:
    assert get_type_hints(Text)["encoder"] is str


def test_command_line() -> None:
    args = ["--text.encoder", "small", "--text.pooling", "cls", "--text.max-tokens", "32", "--text.dropout", "0.2"]
    assert tyro.cli(Recipe, args=args).text == Text("small", pooling="cls", max_tokens=32, dropout=0.2)
    assert tyro.cli(Recipe, args=[]).text == Recipe().text


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 1},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"heads": 3},
        {"layers": 0},
        {"pooling": "max"},
        {"deletion": 1.0},
        {"crop": 0.0},
        {"crop": 1.5},
        {"cutoff": -0.1},
        {"encoder": ""},
        {"encoder": Path("folder")},
    ],
)
def test_wrong_setting_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=list(wrong)[-1]):
        Text(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"encoder": "words", "crop": 0.5},
        {"encoder": "words", "deletion": 0.1},
        {"encoder": "words", "cutoff": 0.1},
        {"encoder": "words", "lora": 4},
        {"encoder": "words", "pooling": "cls"},
        {"encoder": "words", "fill": True},
        {"encoder": "small", "pooling": "pooler"},
        {"encoder": torch.nn.Identity(), "pooling": "first_last"},
    ],
)
def test_what_an_encoder_cannot_do_is_named_when_it_is_built(wrong: dict[str, object]) -> None:
    text = Text(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=list(wrong)[-1]):
        text.build()


def test_source_is_what_decides_the_tokens() -> None:
    own = Text(torch.nn.Identity(), max_tokens=32)
    assert own.source == Text("small", max_tokens=32, width=64, dropout=0.5, pooling="cls").source
    assert hash(own.source) == hash(OFFLINE[0].source)
    assert len({text.source for text in (own, *OFFLINE, Text("small", max_tokens=16), Text("some/name"))}) == 4


@pytest.mark.parametrize("text", OFFLINE)
@pytest.mark.parametrize("raw", ["", " \n\t\u3000", None, 3, b"bytes", float("nan"), [], [None, ""], {"a": "b"}])
def test_unusable_cells(text: Text, raw: object) -> None:
    with pytest.raises(BadSample) as caught:
        text.load(raw, None)
    assert len(str(caught.value)) < 100
    with pytest.raises(BadSample):
        text.preview(raw)


def test_a_prompt_comes_before_every_text() -> None:
    plain, prompted = (Text("words", max_tokens=8, prompt=prompt) for prompt in ("", "query: "))
    assert np.array_equal(prompted.load("a cat", None), plain.load("query: a cat", None))
    assert prompted.source != plain.source
    assert prompted.preview("a cat") == plain.preview("a cat")
    with pytest.raises(BadSample):
        prompted.load("  ", None)


@pytest.mark.parametrize("text", OFFLINE)
def test_one_of_several_strings(text: Text) -> None:
    raw = ["", "first", None, "second"]
    choices = {text.load(raw, random.Random(seed)).tobytes() for seed in range(20)}
    assert choices == {text.load(word, None).tobytes() for word in ("first", "second")}
    assert np.array_equal(text.load(raw, None), text.load("first", None))


def test_nothing_is_drawn_for_one_string() -> None:
    rng = random.Random(3)
    before = rng.getstate()
    OFFLINE[0].load(["one"], rng)
    OFFLINE[0].load("one", rng)
    assert rng.getstate() == before


@settings(deadline=None, max_examples=25)
@given(
    st.text(st.characters(codec=None, categories=None), min_size=1) | st.sampled_from(["中文", "🧑‍🚀🚀", "\ud83d", "é"])
)
@pytest.mark.parametrize("text", OFFLINE)
def test_any_unicode_text_has_tokens(text: Text, raw: str) -> None:
    if not raw.strip():
        with pytest.raises(BadSample):
            text.load(raw, None)
        return
    ids = text.load(raw, None)
    assert ids.dtype == np.int32
    assert ids.min() >= 1
    assert ids.max() < 2**16
    mime, shown = text.preview(raw)
    assert mime.startswith("text/plain")
    assert 1 <= len(shown.decode()) <= 200


def test_halves_of_an_emoji_are_joined() -> None:
    assert np.array_equal(OFFLINE[0].load("\ud83d\ude80!", None), OFFLINE[0].load("🚀!", None))
    assert np.array_equal(OFFLINE[0].load("\ud83d!", None), OFFLINE[0].load("\ufffd!", None))


def test_bytes_are_the_text() -> None:
    ids = OFFLINE[0].load("añ", None)
    assert ids[0] == 1
    assert bytes((ids[1:] - 2).tolist()).decode() == "añ"
    assert len(OFFLINE[0].load("x" * 1000, None)) == 32
    assert len(OFFLINE[0].load("中" * 1000, None)) == 32


def test_a_page_shows_what_is_left_of_a_text() -> None:
    text = Text("small", max_tokens=64, deletion=0.5)
    batch = text.collate([text.load(raw, None) for raw in ("green ideas sleep", "é")])
    assert [(mime, said.decode()) for mime, said in text.show(batch)] == [
        ("text/plain; charset=utf-8", "green ideas sleep"), ("text/plain; charset=utf-8", "é"),
    ]  # fmt: skip
    said = [shown.decode() for _, shown in text.show(text.view(batch, torch.arange(2), "strong"))]
    assert 0 < len(said[0]) < len("green ideas sleep")
    letters = iter("green ideas sleep")
    assert all(letter in letters for letter in said[0])  # in their order
    words = Text("words")
    ((_, count),) = words.show(words.collate([words.load("green", None)]))
    assert count.decode() == f"{len(words.load('green', None))} hashed pieces of words"


def test_words_fold_case_and_know_order() -> None:
    words = OFFLINE[1]
    assert np.array_equal(words.load("The  CAT", None), words.load("the cat", None))
    one, other = (set(words.load(text, None).tolist()) for text in ("three one", "one three"))
    assert one != other
    assert len(one & other) > len(one - other)
    shared = set(words.load("running", None).tolist()) & set(words.load("runner", None).tolist())
    assert shared
    long = " ".join(f"word{i}" for i in range(50))
    assert set(words.load(long, None)[:20]) <= set(words.load(" ".join(long.split()[:8]), None).tolist())


def test_hashes_are_the_same_in_every_process() -> None:
    code = "from multicl.modalities.text import Text; print(Text('words').load('hashed cat', None).tolist())"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert runs == {str(Text("words").load("hashed cat", None).tolist())}


def test_collate_pads_to_the_longest() -> None:
    text = OFFLINE[0]
    batch = text.collate([text.load(raw, None) for raw in ("abc", "a", "abcdefg")])
    assert batch.get("ids").shape == (3, 8)
    assert batch.get("ids").dtype == torch.int64
    assert batch.get("mask").dtype == torch.bool
    assert batch.get("mask").sum(1).tolist() == batch.get("lengths").tolist() == [4, 2, 8]
    assert batch.get("ids")[1].tolist() == [1, ord("a") + 2, 0, 0, 0, 0, 0, 0]
    shorter = batch[:2].trimmed()
    assert shorter.get("ids").shape == shorter.get("mask").shape == (2, 4)


def test_a_view_is_the_batch() -> None:
    text = OFFLINE[0]
    batch = text.collate([text.load("abc", None)])
    for seeds in (None, torch.tensor([7])):
        for kind in ("strong", "weak"):
            assert torch.equal(text.view(batch, seeds, kind).get("ids"), batch.get("ids"))


def test_settings_travel_to_workers() -> None:
    for text in OFFLINE:
        text.load("fill the cache", None)
        again = pickle.loads(pickle.dumps(text))
        assert again == text
        assert np.array_equal(again.load("a text", None), text.load("a text", None))


def test_preview_is_short() -> None:
    assert OFFLINE[0].preview(["", "b " * 500])[1].decode().endswith("…")
    assert OFFLINE[0].preview("short")[1] == b"short"
