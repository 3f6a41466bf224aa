"""Hugging Face encoders, as tiny models in folders."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedConfig, PreTrainedTokenizerFast

from multicl.modalities import pretrained
from multicl.modalities.text import Text
from multicl.types import BadSample, Batch, InputError

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
WORDS = ["a", "b", "c", "d", "e", "f", "cat", "dog", "sat", "mat"]
RAWS = ["a cat", "the dog sat on a mat a b c d e f", "b"]


def word_level(special: bool = True) -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    if not special:
        return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    inner.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", pad_token="<pad>", cls_token="<s>", sep_token="</s>"
    )


def byte_level() -> PreTrainedTokenizerFast:
    """As GPT-2's: no padding token, no special tokens around a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate([*alphabet, "<|endoftext|>"])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|endoftext|>", bos_token="<|endoftext|>")


CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "bert": lambda: transformers.BertConfig(vocab_size=14, max_position_embeddings=32, pad_token_id=1, **SIZE),
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=14, max_position_embeddings=32, dim=16, n_layers=2, n_heads=2, hidden_dim=32, pad_token_id=1
    ),
    "roberta": lambda: transformers.RobertaConfig(
        vocab_size=14, max_position_embeddings=34, pad_token_id=1, bos_token_id=0, eos_token_id=2, **SIZE
    ),
    "modernbert": lambda: transformers.ModernBertConfig(
        vocab_size=14, max_position_embeddings=32, pad_token_id=1, cls_token_id=0, sep_token_id=2,
        bos_token_id=0, eos_token_id=2, attention_dropout=0.1, **SIZE,
    ),
    "t5": lambda: transformers.T5Config(
        vocab_size=14, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, pad_token_id=1, eos_token_id=2
    ),
    "bart": lambda: transformers.BartConfig(
        vocab_size=14, d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=32,
        decoder_attention_heads=2, decoder_ffn_dim=32, max_position_embeddings=32, encoder_layerdrop=0.5,
        pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=2,
    ),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=257, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=256, eos_token_id=256
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_progress_bars() -> None:
    transformers.utils.logging.disable_progress_bar()


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    def make(kind: str, tokenizer: PreTrainedTokenizerFast | None = None, config: Any = None) -> Path:
        torch.manual_seed(0)
        place = tmp_path / "models" / kind
        transformers.AutoModel.from_config(config or CONFIGS[kind]()).save_pretrained(place)
        (tokenizer or (byte_level() if kind == "gpt2" else word_level())).save_pretrained(place)
        return place

    return make


def batch_of(text: Text, raws: list[str]) -> Batch:
    return text.collate([text.load(raw, None) for raw in raws])


@pytest.mark.parametrize(
    ("kind", "pooling"),
    [(k, p) for k in CONFIGS for p in ("mean", "cls", "first_last", "top2", "last") if (k, p) != ("gpt2", "cls")]
    + [("bert", "pooler"), ("roberta", "pooler")],
)
def test_encoders(folder: Callable[..., Path], kind: str, pooling: Any, tmp_path: Path) -> None:
    text = Text(str(folder(kind)), pooling=pooling, max_tokens=16)
    encoder = text.build()
    assert encoder.width == 16
    batch = batch_of(text, RAWS)
    assert (encoder(batch) - encoder(batch)).abs().max() > 1e-4  # dropout
    encoder.eval()
    together = encoder(batch)
    assert together.dtype == torch.float32
    for row, raw in zip(together, RAWS, strict=True):  # padding
        torch.testing.assert_close(encoder(batch_of(text, [raw]))[0], row, atol=1e-5, rtol=1e-5)
    encoder(batch).sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []
    text.save(tmp_path / "saved")
    again = text.restored(tmp_path / "saved")
    assert not again.pretrained
    copy = again.build(weights=False).eval()
    copy.load_state_dict(encoder.state_dict())
    assert torch.equal(copy(batch_of(again, RAWS)), together)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_poolings_are_plain_sums_over_what_transformers_gives(folder: Callable[..., Path], kind: str) -> None:
    place = folder(kind)
    model = transformers.AutoModel.from_pretrained(place).eval()
    for raw in RAWS:
        texts = {
            p: Text(str(place), max_tokens=16, pooling=p)
            for p in ("mean", "cls", "pooler", "last", "first_last", "top2")
        }
        batch = batch_of(texts["mean"], [raw])
        with torch.no_grad():
            out = model(input_ids=batch.get("ids"), output_hidden_states=True)
        states, hidden = out.last_hidden_state[0], [layer[0] for layer in out.hidden_states]
        expected = {
            "mean": sum(states) / len(states),
            "last": states[-1],
            "first_last": sum((hidden[0] + hidden[-1]) / 2) / len(states),
            "top2": sum((hidden[-2] + hidden[-1]) / 2) / len(states),
        }
        if kind == "bert":
            expected |= {"cls": states[0], "pooler": out.pooler_output[0]}
        for pooling, vector in expected.items():
            with torch.no_grad():
                found = texts[pooling].build().eval()(batch)[0]
            torch.testing.assert_close(found, vector, atol=1e-5, rtol=1e-5, msg=pooling)


def fnet() -> transformers.PreTrainedModel:
    config = transformers.FNetConfig(
        vocab_size=14, max_position_embeddings=32, pad_token_id=1, hidden_size=16, num_hidden_layers=2,
        intermediate_size=32,
    )  # fmt: skip
    return transformers.FNetModel(config)


def siglip() -> transformers.PreTrainedModel:
    config = transformers.SiglipTextConfig(
        vocab_size=14, max_position_embeddings=32, projection_size=16, pad_token_id=1, bos_token_id=0, eos_token_id=2,
        **SIZE,
    )  # fmt: skip
    return transformers.SiglipTextModel(config)


@pytest.mark.parametrize(("make", "pooling"), [(fnet, "mean"), (siglip, "pooler")])
def test_a_model_that_feels_padding_is_given_texts_of_one_length(tmp_path: Path, make: Any, pooling: Any) -> None:
    torch.manual_seed(0)
    for part in (make(), word_level()):
        part.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"depends on how far the batch is padded; give fill=True \(--text.fill\)"):
        Text(str(tmp_path), max_tokens=16, pooling=pooling).build()
    text = Text(str(tmp_path), max_tokens=16, pooling=pooling, fill=True)
    encoder = text.build().eval()
    for row, raw in zip(encoder(batch_of(text, RAWS)), RAWS, strict=True):
        torch.testing.assert_close(encoder(batch_of(text, [raw]))[0], row, atol=1e-5, rtol=1e-5)


def test_a_model_of_any_number_of_positions(folder: Callable[..., Path]) -> None:
    config = transformers.XLNetConfig(vocab_size=14, d_model=16, n_layer=2, n_head=2, d_inner=32, pad_token_id=1)
    text = Text(str(folder("xlnet", config=config)), max_tokens=16)
    assert text.build().eval()(batch_of(text, RAWS)).shape == (3, 16)


@pytest.mark.parametrize("kind", ["T5", "MT5", "UMT5"])
def test_files_of_an_encoder_alone(kind: str, tmp_path: Path) -> None:
    settings = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    config = getattr(transformers, f"{kind}Config")(vocab_size=14, pad_token_id=1, eos_token_id=2, **settings)
    net = getattr(transformers, f"{kind}EncoderModel")(config).eval()
    for part in (net, word_level()):
        part.save_pretrained(tmp_path)
    text = Text(str(tmp_path), max_tokens=16)
    encoder = text.build().eval()
    batch = batch_of(text, RAWS)
    with torch.no_grad():
        states = net(input_ids=batch.get("ids"), attention_mask=batch.get("mask").long()).last_hidden_state
        found = encoder(batch)
    mask = batch.get("mask")[..., None]
    torch.testing.assert_close(found, (states * mask).sum(1) / mask.sum(1), atol=1e-5, rtol=1e-5)
    assert text.forms(encoder) == ()  # what others would load from the folder is the whole


def test_a_page_shows_the_tokens_of_a_view(folder: Callable[..., Path]) -> None:
    text = Text(str(folder("bert")), max_tokens=16)
    said = [shown.decode() for _, shown in text.show(batch_of(text, RAWS))]
    assert said == ["a cat", "<unk> dog sat <unk> a mat a b c d e f", "b"]


def test_a_pooler_must_be_there(folder: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"pooling='pooler': encoder .* has no pooler; give pooling='cls'"):
        Text(str(folder("distilbert")), max_tokens=16, pooling="pooler").build()


def test_weights_are_the_checkpoints(folder: Callable[..., Path]) -> None:
    place = str(folder("bert"))
    stored = transformers.AutoModel.from_pretrained(place).state_dict()
    loaded, random = (Text(place, max_tokens=16, pretrained=p).build().model.state_dict() for p in (True, False))
    name = "encoder.layer.0.attention.self.query.weight"
    assert torch.equal(loaded[name], stored[name])
    assert not torch.equal(random[name], stored[name])
    assert not torch.equal(Text(place, max_tokens=16).build(weights=False).model.state_dict()[name], stored[name])


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_dropout_is_set_everywhere(folder: Callable[..., Path], kind: str) -> None:
    place = str(folder(kind))
    text = Text(place, max_tokens=16, dropout=0.0)
    encoder = text.build().train()
    batch = batch_of(text, RAWS)
    assert torch.equal(encoder(batch), encoder(batch))
    other = Text(place, max_tokens=16, dropout=0.4).build()
    assert {m.p for m in other.modules() if isinstance(m, torch.nn.Dropout)} <= {0.4}


def test_layer_drop_is_off_with_a_note(folder: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    encoder = Text(str(folder("bart")), max_tokens=16, dropout=0.0).build()
    assert encoder.model.layerdrop == 0
    assert "encoder_layerdrop 0.5 is set to 0" in caplog.text


def test_clip_gives_its_text_side(folder: Callable[..., Path]) -> None:
    text = {"vocab_size": 14, "max_position_embeddings": 32, "bos_token_id": 0, "eos_token_id": 2, **SIZE}
    vision = {"image_size": 8, "patch_size": 4, **SIZE}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    settings = Text(str(folder("clip", config=config)), max_tokens=16)
    assert settings.build().eval()(batch_of(settings, RAWS)).shape == (3, 16)


def test_end_token_pads_where_there_is_none_for_it(folder: Callable[..., Path]) -> None:
    text = Text(str(folder("gpt2")), max_tokens=16)
    batch = batch_of(text, ["a", "中文 🚀"])
    assert batch.get("ids")[0, 1:].eq(256).all()
    assert batch.get("mask")[0].tolist() == [True] + [False] * (batch.get("mask").shape[1] - 1)


def test_no_padding_and_no_end_token(folder: Callable[..., Path]) -> None:
    text = Text(str(folder("bert", word_level(special=False))), max_tokens=16)
    with pytest.raises(InputError, match="no padding token"):
        text.load("a cat", None)
    with pytest.raises(InputError, match="no padding token"):
        text.build()


def test_cls_needs_a_cls_token(folder: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"no \[CLS\] token"):
        Text(str(folder("gpt2")), max_tokens=16, pooling="cls").build()


def test_long_texts_are_cut_with_their_special_tokens(folder: Callable[..., Path]) -> None:
    ids = Text(str(folder("bert")), max_tokens=6).load("a b c d e f a b c d e f", None)
    assert ids.tolist() == [0, 4, 5, 6, 7, 2]
    assert ids.dtype == np.int32


@pytest.mark.parametrize(("kind", "positions"), [("bert", 32), ("distilbert", 32), ("roberta", 32), ("gpt2", 32)])
def test_more_tokens_than_positions(folder: Callable[..., Path], kind: str, positions: int) -> None:
    place = str(folder(kind))
    with pytest.raises(InputError, match=f"max_tokens={positions}"):
        Text(place, max_tokens=positions + 1).build()
    text = Text(place, max_tokens=positions)
    assert torch.isfinite(text.build()(batch_of(text, ["a " * 100]))).all()


def test_tokenizer_of_another_model(folder: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="do not belong together"):
        Text(str(folder("bert", byte_level())), max_tokens=16).build()


def test_no_room_for_text(folder: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="max_tokens=2"):
        Text(str(folder("bert")), max_tokens=2).load("a", None)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (models.WordLevel({"a": 0, "</s>": 1}), "cannot read 'zzz'"),
        (models.BPE({"a": 0, "</s>": 1}, []), "no token in"),
    ],
)
def test_text_without_a_token(folder: Callable[..., Path], model: Any, said: str) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), eos_token="</s>")
    text = Text(str(folder("bert", tokenizer)), max_tokens=16)
    assert text.load("a", None).tolist() == [0]
    with pytest.raises(BadSample, match=said):
        text.load("zzz", None)


def test_weights_that_are_not_there(folder: Callable[..., Path]) -> None:
    place = folder("bert")
    from safetensors.torch import load_file, save_file

    kept = {k: t for k, t in load_file(place / "model.safetensors").items() if "layer.1" not in k}
    save_file(kept, place / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lack 16 tensors.*pretrained=False"):
        Text(str(place), max_tokens=16).build()
    (place / "model.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="cannot be loaded"):
        Text(str(place), max_tokens=16).build()
    (place / "model.safetensors").unlink()
    torch.save(kept, place / "pytorch_model.bin")  # a pickle is never loaded
    with pytest.raises(InputError, match="cannot be loaded"):
        Text(str(place), max_tokens=16).build()


def test_an_image_encoder_is_not_for_text(folder: Callable[..., Path]) -> None:
    config = transformers.ViTConfig(image_size=8, patch_size=4, **SIZE)
    with pytest.raises(InputError, match="pixel_values, not text"):
        Text(str(folder("vit", config=config)), max_tokens=16).build()


def _hub(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def model_info(*_: object, **__: object) -> None:
        raise error

    pretrained.locate.cache_clear()
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)


@pytest.mark.parametrize("name", ["smal", "some-org/some-model", "hf/some-org/some-model", "not a name!"])
@pytest.mark.parametrize("error", [ConnectionError("no network"), huggingface_hub.errors.HFValidationError("bad")])
def test_unknown_or_unreachable(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> None:
    _hub(monkeypatch, error)
    for do in (lambda text: text.build(), lambda text: text.load("a", None), lambda text: text.save(Path("nowhere"))):
        with pytest.raises(InputError, match=r"your own nn\.Module") as caught:
            do(Text(name))
        assert repr(name) in str(caught.value)
        assert '"small" and "words"' in str(caught.value)
        assert ("Did you mean 'small'?" in str(caught.value)) == (name == "smal")


def test_a_folder_that_holds_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be loaded"):
        Text(str(tmp_path)).build()


def _load(text: Text, raw: str) -> list[int]:
    ids: list[int] = text.load(raw, None).tolist()
    return ids


def test_tokenizers_live_in_workers(folder: Callable[..., Path]) -> None:
    text = Text(str(folder("bert")), max_tokens=16)
    expected = [_load(text, raw) for raw in RAWS]  # the tokenizer is in use here, and again over there
    loader = torch.utils.data.DataLoader(
        RAWS,  # type: ignore[arg-type]
        batch_size=None,
        num_workers=1,
        collate_fn=functools.partial(_load, text),
        multiprocessing_context="fork",
    )
    assert list(loader) == expected
