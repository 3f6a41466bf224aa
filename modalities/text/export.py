"""Export of a trained text encoder for other libraries: transformers, sentence-transformers, ONNX."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multicl.modalities import lora, pretrained
from multicl.modalities.text import hub, sentence, tokens
from multicl.modalities.text.encoders import TransformerEncoder
from multicl.types import Half, InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from multicl.modalities.text.settings import Text

POOLED = {
    "mean": "the mean of `last_hidden_state` over the tokens of `attention_mask`",
    "cls": "`last_hidden_state[:, 0]`",
    "last": "`last_hidden_state` at the last token of `attention_mask`",
    "pooler": "`pooler_output`",
    "first_last": "the mean over the tokens of `attention_mask` of the first and the last of `hidden_states`",
    "top2": "the mean over the tokens of `attention_mask` of the last two of `hidden_states`",
}
"""Pooling -> the vector of a text, in words."""
TOLERANCE = 1e-4
"""Largest allowed difference between the unit vectors of ONNX Runtime and PyTorch, by component."""
FORMS = ("sentence-transformers", "transformers", "onnx")


def forms(text: Text, encoder: nn.Module) -> tuple[str, ...]:
    """The forms of export that can hold this encoder."""
    if not isinstance(encoder, TransformerEncoder) or encoder.model.config.is_encoder_decoder or text.fill:
        return ()
    as_sentence = _named(encoder) == "AutoModel" and (encoder.pooling != "pooler" or _pooler(encoder))
    return FORMS if as_sentence else FORMS[1:]


def _named(encoder: TransformerEncoder) -> str:
    """The class of transformers that loads the model; sentence-transformers supports AutoModel only."""
    return str(pretrained.class_of(encoder.model.config).__name__)


def write(text: Text, encoder: nn.Module, head: nn.Module | None, folder: Path, form: str) -> str:
    """Write the encoder, its tokenizer and whatever else the form, one of `forms`, needs.

    Returns:
        Markdown for the model card that shows how to use it.

    Raises:
        InputError: this form has no place for the encoder's pooling or the head.
    """
    writers: dict[str, Callable[[Text, TransformerEncoder, nn.Module | None, Path], str]]
    writers = {"transformers": _transformers, "sentence-transformers": _sentence_transformers, "onnx": _onnx}
    assert isinstance(encoder, TransformerEncoder)
    return writers[form](text, lora.merged(encoder), head, folder)


def half(text: Text, encoder: nn.Module) -> Half:
    """The encoder as the text half of CLIP, SigLIP or CLAP.

    Raises:
        InputError: it is not a transformer, or pools in another way than they do.
    """
    if not isinstance(encoder, TransformerEncoder):
        raise InputError(f"a {type(encoder).__name__} is not the text half of a two-tower model")
    if encoder.pooling != "pooler":
        raise InputError(f"two-tower models compare the pooled output of a text, not pooling={encoder.pooling!r}")
    fill = '"max_length"' if text.fill else "True"
    usage = f"""    tokens = processor(text={_texts(text)}, padding={fill}, truncation=True, return_tensors="pt")
    text = model.get_text_features(**tokens).pooler_output  # [N, D]"""
    return Half(lora.merged(encoder).model, None, lambda: _half_tokenizer(text), usage)


def _half_tokenizer(text: Text) -> PreTrainedTokenizerBase:
    """The tokenizer; it gives no mask if padding is read like text (SigLIP)."""
    tokenizer = _tokenizer(text)
    tokenizer.model_input_names = ["input_ids"] if text.fill else ["input_ids", "attention_mask"]
    tokenizer.init_kwargs["model_input_names"] = (
        tokenizer.model_input_names
    )  # save_pretrained writes the settings in here
    return tokenizer


def _transformers(text: Text, encoder: TransformerEncoder, head: nn.Module | None, folder: Path) -> str:
    if head is not None:
        raise InputError("transformers has no place for a head: export the encoder's features (--space features)")
    with pretrained.quiet():
        encoder.model.save_pretrained(folder)
    _tokenizer(text).save_pretrained(folder)
    kind = _named(encoder)
    return f"""```python
from transformers import {kind}, AutoTokenizer
tokenizer, model = AutoTokenizer.from_pretrained("this-folder"), {kind}.from_pretrained("this-folder").eval()
texts = {_texts(text)}
out = model(**tokenizer(texts, padding=True, truncation=True, return_tensors="pt"), output_hidden_states=True)
```

A text's vector is {POOLED[encoder.pooling]}.
"""


def _texts(text: Text) -> str:
    """Python code for texts as the encoder reads them."""
    return f'[{text.prompt!r} + words for words in ["two words"]]' if text.prompt else '["two words"]'


def _pooler(encoder: TransformerEncoder) -> list[nn.Module]:
    """The layers of a pooler like BERT's, which sentence-transformers supports; empty for any other pooler."""
    pooler = getattr(encoder.model, "pooler", None)
    layers = list(pooler.children()) if isinstance(pooler, nn.Module) else []
    layers = [getattr(layer, "base_layer", layer) for layer in layers]  # under LoRA
    return layers if [type(layer) for layer in layers] == [nn.Linear, nn.Tanh] else []


def _sentence_transformers(text: Text, encoder: TransformerEncoder, head: nn.Module | None, folder: Path) -> str:
    _transformers(text, encoder, None, folder)
    layers = [] if head is None else list(head.children()) if isinstance(head, nn.Sequential) else [head]
    pooling, limit = encoder.pooling, _tokenizer(text).model_max_length
    if pooling == "pooler":
        pooling, layers = "cls", [*_pooler(encoder), *layers]
    sentence.write_files(folder, pooling, encoder.width, limit, layers, text.prompt)
    return """```python
from sentence_transformers import SentenceTransformer
model = SentenceTransformer("this-folder")
vectors = model.encode(["two words"])  # [N, D], unit vectors
```
"""


class _Whole(nn.Module):
    """Token ids -> unit vectors."""

    def __init__(self, encoder: TransformerEncoder, head: nn.Module | None) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """[B, T] int64, [B, T] int64 -> [B, D] float32."""
        h = self.encoder.pooled(input_ids, attention_mask)
        return F.normalize(h if self.head is None else self.head(h), dim=1)


def _onnx(text: Text, encoder: TransformerEncoder, head: nn.Module | None, folder: Path) -> str:
    if missing := [name for name in ("onnx", "onnxscript") if find_spec(name) is None]:
        raise InputError(f"exporting to ONNX needs {missing[0]}: pip install 'multicl[onnx]'")
    tokenizer = _tokenizer(text)
    tokenizer.save_pretrained(folder)
    whole = _Whole(encoder, head).eval()
    batch = tokenizer(["a", "two words"], padding=True, truncation=True, return_tensors="pt")
    given = (batch["input_ids"], batch["attention_mask"])
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    path = folder / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's exporter uses what torch itself deprecates
        torch.onnx.export(
            whole, given, path, input_names=["input_ids", "attention_mask"], output_names=["sentence_embedding"],
            dynamic_shapes=(free, free), dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
    _check_onnx(whole, tokenizer, path)
    return f"""```python
import numpy, onnxruntime
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("this-folder")
session = onnxruntime.InferenceSession("this-folder/model.onnx")
batch = tokenizer({_texts(text)}, padding=True, truncation=True, return_tensors="np")
given = {{name: batch[name].astype(numpy.int64) for name in ("input_ids", "attention_mask")}}
(vectors,) = session.run(["sentence_embedding"], given)  # [N, D], unit vectors
```
"""


def _check_onnx(whole: nn.Module, tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """If ONNX Runtime is installed, compare the file with PyTorch on another number of texts of other lengths.

    Raises:
        InputError: they differ.
    """
    if find_spec("onnxruntime") is None:
        return
    import onnxruntime

    batch = tokenizer(["one", "and two", "three texts " * 9], padding=True, truncation=True, return_tensors="pt")
    given = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        expected = whole(**given)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {name: x.numpy() for name, x in given.items()})
    if (off := float((torch.from_numpy(found) - expected).abs().max())) > TOLERANCE:
        raise InputError(f"vectors of the ONNX file differ from PyTorch's by {off:.2g}, more than {TOLERANCE}")


def _tokenizer(text: Text) -> PreTrainedTokenizerBase:
    """The encoder's tokenizer with our limit and padding, or bytes as a Hugging Face tokenizer."""
    ours = text._tokenizer()
    if isinstance(ours, tokens.ByteTokenizer):
        return byte_tokenizer(ours.limit)
    assert isinstance(ours, tokens.HubTokenizer)
    inner = hub.load_tokenizer(ours.name)
    inner.model_max_length = ours.limit
    if not text.fill:  # with it, the encoder reads the padding, and its side matters
        inner.padding_side = "right"
    if inner.pad_token is None:
        inner.pad_token = inner.eos_token
    return inner


def byte_tokenizer(limit: int) -> PreTrainedTokenizerBase:
    """`tokens.ByteTokenizer` as a Hugging Face tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pad, cls = "<|pad|>", "<|cls|>"
    vocabulary = {pad: 0, cls: 1, **{letter: 2 + byte for byte, letter in enumerate(_letters())}}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.post_processor = processors.TemplateProcessing(single=f"{cls} $A", special_tokens=[(cls, 1)])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner, pad_token=pad, cls_token=cls, model_max_length=limit, split_special_tokens=True,
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def _letters() -> list[str]:
    """The character of each byte in byte-level vocabularies (GPT-2): the byte's own if it is printable."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = iter(range(256, 512))
    return [chr(byte if byte in seen else next(hidden)) for byte in range(256)]
