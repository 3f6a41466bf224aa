"""What a run says about text: `Text`. Libraries are imported by the methods that need them."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from multicl.types import BadSample, Batch, Half, InputError, Kind, Suggestion

if TYPE_CHECKING:
    import random

    import numpy as np
    from torch import Tensor, nn

    from multicl.modalities.text.tokens import Tokenizer

    EncoderLike = str | nn.Module
else:
    EncoderLike = str  # what a command line can say; a user's nn.Module comes from Python

PREVIEW = 200
"""Characters of a text that a page shows."""


@dataclass(frozen=True)
class Text:
    """Strings as a modality. Dropout is the augmentation (SimCSE, arXiv:2104.08821); tokens may be left out, too.

    Raises:
        InputError: a setting out of its range.
    """

    encoder: EncoderLike = "small"
    """Offline: "small", a transformer over bytes, or "words", hashed words and their parts, very fast. Else a Hugging
    Face name ("distilbert-base-uncased", "hf/ORG/NAME"), a folder of transformers or sentence-transformers, or in
    Python any nn.Module that makes (ids, mask) of bytes into [B, W] or [B, T, W]."""
    _: KW_ONLY
    column: str | None = None
    """Column of the rows; None: the node's name."""
    tower: str | None = None
    """Nodes that name one tower share its weights; None: the node's name."""
    pooling: Literal["mean", "cls", "pooler", "last", "first_last", "top2"] | None = None
    """Tokens -> one vector. "cls": the last layer's state of the leading [CLS] token (SimCSE's cls_before_pooler);
    "pooler": that through the checkpoint's own pooler (SimCSE's cls); "last": of the last token, for decoders;
    "first_last", "top2": mean over tokens of two layers, the embeddings and the last, or the last two, as SimCSE's code
    has them. None: what an encoder of sentence-transformers says, "mean" for all others."""
    max_tokens: int = 128
    """Longer texts are cut: tokens with the special ones; bytes and [CLS] for "small", words for "words"."""
    fill: bool = False
    """Every text is filled up to `max_tokens` with padding that is read like text, as SigLIP was trained: on the side
    that the tokenizer names, and no further than the tokenizer goes."""
    prompt: str = ""
    """Comes before every text, as in "query: "; nodes of one tower may have prompts of their own."""
    deletion: float = 0.0
    """In strong views, the chance of each token to be left out, in [0, 1)."""
    crop: float = 1.0
    """In strong views, the least share of a text that a random span of it keeps, in (0, 1]; 1: all is kept."""
    cutoff: float = 0.0
    """In strong views, the share of a random span that is left out, in [0, 1)."""
    dropout: float | None = None
    """Hidden and attention dropout, in [0, 1); None: the encoder's own (0.1 offline)."""
    pretrained: bool = True
    """Load a Hugging Face encoder's weights; False: its architecture with random weights."""
    lora: int = 0
    """Rank of LoRA's updates of all linear maps (arXiv:2106.09685), which alone train, beside the heads; 0: all weights
    train. Needs peft; an export has them merged."""
    width: int = 256
    """Width of the features that "small" and "words" give."""
    layers: int = 4
    """Layers of "small"."""
    heads: int = 4
    """Attention heads of "small"; their number divides `width`."""

    own: ClassVar[tuple[str, ...]] = ("prompt", "deletion", "crop", "cutoff")
    """In which nodes that share a tower may differ."""
    projection: ClassVar[str] = "text_projection"
    """What comes after the text half in a two-tower model of transformers."""

    def __post_init__(self) -> None:
        for name, least in (("max_tokens", 2), ("width", 2), ("layers", 1), ("heads", 1)):
            value = getattr(self, name)
            _require(isinstance(value, int) and value >= least, name, value, f"a whole number, {least} or more")
        _require(self.width % self.heads == 0, "heads", self.heads, f"a divisor of width={self.width}")
        _require(self.dropout is None or 0 <= self.dropout < 1, "dropout", self.dropout, "in [0, 1)")
        _require(isinstance(self.lora, int) and self.lora >= 0, "lora", self.lora, "a whole number, 0 or more")
        named = bool(self.encoder) if isinstance(self.encoder, str) else callable(self.encoder)
        _require(named, "encoder", self.encoder, '"small", "words", a name, a folder (as a string), or an nn.Module')
        known = ("mean", "cls", "pooler", "last", "first_last", "top2")
        _require(self.pooling is None or self.pooling in known, "pooling", self.pooling, f"one of {known}")
        _require(0 <= self.deletion < 1, "deletion", self.deletion, "in [0, 1)")
        _require(0 < self.crop <= 1, "crop", self.crop, "in (0, 1]")
        _require(0 <= self.cutoff < 1, "cutoff", self.cutoff, "in [0, 1)")

    def _check_encoder(self) -> None:
        """The encoder can do what is asked. Not before it is built, as a recipe may name another one until then."""
        transformer = isinstance(self.encoder, str) and self.encoder != "words"
        _require(not self.fill or self.encoder != "words", "fill", self.fill, "False for encoder 'words'")
        _require(not self.lora or transformer, "lora", self.lora, f"0 for {_label(self.encoder)}")
        poolings = {"mean", "cls", "last", "first_last", "top2"}
        if self.encoder == "words":
            poolings = {"mean"}  # a bag of words has no first token and no layers of tokens
        elif not isinstance(self.encoder, str):
            poolings = {"mean", "cls", "last"}  # its layers cannot be seen
        elif self.encoder != "small":
            poolings |= {"pooler"}
        for name, off in (("deletion", 0), ("crop", 1), ("cutoff", 0)):  # parts of words have no order
            kept = self.encoder != "words" or getattr(self, name) == off
            _require(kept, name, getattr(self, name), f"{off} for encoder 'words', whose dropout leaves out tokens")
        wanted = " or ".join(f'"{p}"' for p in sorted(poolings))
        _require(self.pooling in {None, *poolings}, "pooling", self.pooling, f"{wanted} for {_label(self.encoder)}")

    @property
    def source(self) -> Hashable:
        """What decides load, collate and view: the prompt, the tokens, their number, and which are left out."""
        return ("text", self._tokens, self.max_tokens, self.fill, self.prompt, self.deletion, self.crop, self.cutoff)

    @property
    def files(self) -> bool:
        """A string cell is the text itself."""
        return False

    @property
    def _tokens(self) -> str:
        """Name of the tokenizer; a user's own module reads bytes."""
        return self.encoder if isinstance(self.encoder, str) and self.encoder != "small" else "bytes"

    def _tokenizer(self) -> Tokenizer:
        from multicl.modalities.text import tokens

        return tokens.tokenizer(self._tokens, self.max_tokens)

    def load(self, raw: Any, rng: random.Random | None) -> np.ndarray[Any, np.dtype[np.int32]]:
        """A string -> [T] int32 token ids; of several strings `rng` picks one, without it the first.

        Raises:
            BadSample: not a string, no text in it, or no string with text among several.
            InputError: the tokenizer cannot be had.
        """
        texts = _texts(raw)
        text = rng.choice(texts) if rng is not None and len(texts) > 1 else texts[0]
        ids = self._tokenizer()(_clean(self.prompt + text))
        if len(ids) == 0:
            raise BadSample(f"the tokenizer of {self.encoder!r} finds no token in {text[:40]!r}")
        return ids

    def each(self, raw: Any) -> Sequence[Any]:
        """The texts of a cell that holds several, or the cell."""
        return [text for text in raw if isinstance(text, str) and text.strip()] if isinstance(raw, list) else [raw]

    def single(self, values: Any) -> bool:
        """Whether these are one text; a list is of cells, not the several texts of one."""
        return isinstance(values, str)

    def collate(self, samples: Sequence[np.ndarray[Any, np.dtype[np.int32]]]) -> Batch:
        """B samples -> `ids` [B, T] int64 padded to the longest, `mask` [B, T] bool, `lengths` [B] int64."""
        import torch

        lengths = torch.tensor([len(ids) for ids in samples])
        tokenizer = self._tokenizer()
        widest = tokenizer.limit if self.fill else int(lengths.max())
        padded = torch.full((len(samples), widest), tokenizer.pad)
        for line, ids in zip(padded, samples, strict=True):
            start = widest - len(ids) if self.fill and tokenizer.left else 0
            line[start : start + len(ids)] = torch.as_tensor(ids, dtype=torch.int64)
        lengths = torch.full_like(lengths, widest) if self.fill else lengths
        mask = torch.arange(widest) < lengths[:, None]
        return Batch({"ids": padded, "mask": mask, "lengths": lengths}, padded=("ids", "mask"))

    def view(self, batch: Batch, seeds: Tensor | None, kind: Kind = "strong") -> Batch:
        """The batch itself, as the encoder's dropout makes views differ; of a strong view the tokens that are left."""
        if seeds is None or kind == "weak" or (not self.deletion and not self.cutoff and self.crop == 1):
            return batch
        from multicl.modalities.text import augment

        special = self._tokenizer().special
        return augment.thinned(batch, seeds, self.deletion, self.crop, self.cutoff, special)

    def build(self, weights: bool = True) -> nn.Module:
        """Batch -> [B, width] float32. weights False: no download of weights, nor of anything else after `restored`.

        Raises:
            InputError: the encoder is unknown, cannot be reached, or does not fit these settings.
        """
        from multicl.modalities.text import encoders

        self._check_encoder()
        return encoders.build(self, weights)

    def save(self, folder: Path) -> None:
        """Write a Hugging Face encoder's config and tokenizer; the offline encoders need nothing."""
        if isinstance(self.encoder, str) and self.encoder not in ("small", "words"):
            from multicl.modalities.text import hub, sentence

            folder.mkdir(parents=True, exist_ok=True)
            if self.pooling is None:
                sentence.copy_files(self.encoder, folder)
            hub.load_config(self.encoder).save_pretrained(folder)
            hub.load_tokenizer(self.encoder).save_pretrained(folder)

    def restored(self, folder: Path) -> Text:
        """These settings with the encoder's name replaced by the folder that `save` wrote, and no weights to load.

        Raises:
            InputError: the encoder was the user's own module, which no folder can bring back.
        """
        if not isinstance(self.encoder, str):
            raise InputError(
                f"the text encoder was your own {type(self.encoder).__name__}, which is not saved as code: load with "
                "modalities={...}, giving Text(your_module) for this node"
            )
        offline = self.encoder in ("small", "words")
        return dataclasses.replace(self, encoder=self.encoder if offline else str(folder), pretrained=False)

    def forms(self, encoder: nn.Module) -> tuple[str, ...]:
        """The forms of `export` that can hold this encoder."""
        from multicl.modalities.text import export

        return export.forms(self, encoder)

    def half(self, encoder: nn.Module) -> Half:
        """A built and trained encoder as the text half of CLIP, SigLIP or CLAP; see `multicl.types.Half`.

        Raises:
            InputError: it is no such half.
        """
        from multicl.modalities.text import export

        return export.half(self, encoder)

    def export(self, encoder: nn.Module, head: nn.Module | None, folder: Path, form: str) -> str:
        """Write a built and trained encoder as another library loads it; gives how to use it there, as Markdown.

        Args:
            head: what comes after it, if anything. form: transformers, sentence-transformers or onnx.

        Raises:
            InputError: that library cannot hold this encoder, its pooling or its head.
        """
        from multicl.modalities.text import export

        return export.write(self, encoder, head, folder, form)

    def suggest(self, cells: Sequence[Any], accelerator: bool, pretrained: bool) -> Suggestion:
        """Settings for cells like these; see `multicl.types.Suggests`."""
        from multicl.modalities.text.suggest import suggest

        return suggest(cells, accelerator, pretrained)

    def preview(self, raw: Any) -> tuple[str, bytes]:
        """The text, or the first of several, as UTF-8 of at most 200 characters. BadSample as in `load`."""
        return _shown(_clean(_texts(raw)[0].strip()))

    def show(self, batch: Batch) -> list[tuple[str, bytes]]:
        """The tokens of each row of a batch or a view of it as text, for a page; the encoder's dropout is to come."""
        ids, mask, said = batch.get("ids").cpu(), batch.get("mask").cpu(), self._tokenizer().said
        return [_shown(said(row[kept].numpy())) for row, kept in zip(ids, mask, strict=True)]


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise InputError(f"text setting {name}={value!r}: it must be {wanted}")


def _label(encoder: object) -> str:
    return f"encoder {encoder!r}" if isinstance(encoder, str) else f"your own {type(encoder).__name__}"


def _texts(raw: Any) -> list[str]:
    """The strings of a cell that have text in them; at least one, else BadSample."""
    several = isinstance(raw, list | tuple)
    if not several and not isinstance(raw, str):
        raise BadSample(f"a text must be a string or a list of strings, not {type(raw).__name__}")
    texts = [text for text in (raw if several else [raw]) if isinstance(text, str) and text.strip()]
    if not texts:
        raise BadSample("no text in the list" if several else "the text is empty")
    return texts


def _shown(text: str) -> tuple[str, bytes]:
    short = text if len(text) <= PREVIEW else text[: PREVIEW - 1] + "…"
    return "text/plain; charset=utf-8", short.encode()


def _clean(text: str) -> str:
    """Valid Unicode: halves of an emoji (surrogates, which JSON may hold) are joined, or become U+FFFD if alone."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
