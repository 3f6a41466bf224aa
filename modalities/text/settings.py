"""Settings of the modality text: `Text`. Methods import the libraries that they need."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from multicl.modalities import checks
from multicl.types import BadSample, Batch, Half, Kind, Suggestion

if TYPE_CHECKING:
    import random

    import numpy as np
    from torch import Tensor, nn

    from multicl.modalities.text.tokens import Tokenizer

    EncoderLike = str | nn.Module
else:
    EncoderLike = str  # all that a command line can name; an nn.Module comes from Python

Pooling = Literal["mean", "cls", "pooler", "last", "first_last", "top2"]
PREVIEW = 200
"""Maximum number of characters of a text that a page shows."""

_require = partial(checks.require, "text")


@dataclass(frozen=True)
class Text:
    """Strings as a modality. Dropout is the augmentation (SimCSE, arXiv:2104.08821); tokens may be dropped, too.

    Raises:
        InputError: a setting out of its range.
    """

    encoder: EncoderLike = "small"
    """Built in: "small", a transformer over bytes, or "words", a very fast bag of hashed words and their parts. Others:
    a Hugging Face name ("distilbert-base-uncased", "hf/ORG/NAME"), a folder of transformers or sentence-transformers,
    or in Python any nn.Module that turns (ids, mask) of bytes into [B, W] or [B, T, W]."""
    _: KW_ONLY
    column: str | None = None
    """Column of the data that holds the texts; None: the one named like the node."""
    tower: str | None = None
    """Name of the tower; nodes with the same tower share its weights. None: the node's name."""
    pooling: Pooling | None = None
    """Tokens -> one vector. "cls": the last layer's state of the leading [CLS] token (SimCSE's cls_before_pooler);
    "pooler": that state through the checkpoint's own pooler (SimCSE's cls); "last": the state of the last token, for
    decoders; "first_last", "top2": the mean over tokens and two layers (the embeddings and the last, or the last two),
    as in SimCSE's code. None: what a folder of sentence-transformers says; for other encoders "mean"."""
    max_tokens: int = 128
    """Longer texts are truncated; special tokens count. "small" counts bytes and [CLS], "words" counts words."""
    fill: bool = False
    """Pad every text to `max_tokens` (at most the tokenizer's own limit) on the tokenizer's padding side; the encoder
    reads the padding like text, as SigLIP does in training."""
    prompt: str = ""
    """Text that is put before every text, such as "query: "; nodes of one tower may have different prompts."""
    deletion: float = 0.0
    """In strong views, the probability that a token is dropped, in [0, 1)."""
    crop: float = 1.0
    """Strong views keep one random span of the text: the span's smallest share of it, in (0, 1]; 1: all is kept."""
    cutoff: float = 0.0
    """Strong views drop one random span of the text: the span's share of it, in [0, 1)."""
    dropout: float | None = None
    """Hidden and attention dropout, in [0, 1); None: the encoder's own (0.1 offline)."""
    pretrained: bool = True
    """Load a Hugging Face encoder's weights; False: its architecture with random weights."""
    lora: int = 0
    """Rank of LoRA's updates (arXiv:2106.09685) to all linear layers: only these and the heads are trained; 0: all
    weights are. Needs peft; an export merges them into the weights."""
    width: int = 256
    """Width of the features that "small" and "words" give."""
    layers: int = 4
    """Layers of "small"."""
    heads: int = 4
    """Attention heads of "small"; must divide `width`."""

    own: ClassVar[tuple[str, ...]] = ("prompt", "deletion", "crop", "cutoff")
    """Settings in which nodes of one tower may differ."""
    projection: ClassVar[str] = "text_projection"
    """Name of the layer after the text half in a two-tower model of transformers."""

    def __post_init__(self) -> None:
        for name, least in (("max_tokens", 2), ("width", 2), ("layers", 1), ("heads", 1)):
            value = getattr(self, name)
            _require(isinstance(value, int) and value >= least, name, value, f"a whole number, {least} or more")
        _require(self.width % self.heads == 0, "heads", self.heads, f"a divisor of width={self.width}")
        _require(self.dropout is None or 0 <= self.dropout < 1, "dropout", self.dropout, "in [0, 1)")
        checks.check_common("text", self.encoder, self.lora, '"small", "words", a name, a folder (as a string)')
        known = get_args(Pooling)
        _require(self.pooling in (None, *known), "pooling", self.pooling, f"one of {known}")
        _require(0 <= self.deletion < 1, "deletion", self.deletion, "in [0, 1)")
        _require(0 < self.crop <= 1, "crop", self.crop, "in (0, 1]")
        _require(0 <= self.cutoff < 1, "cutoff", self.cutoff, "in [0, 1)")

    def _check_encoder(self) -> None:
        """Check that the settings suit the encoder; called on building it, as a recipe may change it until then."""
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
            _require(kept, name, getattr(self, name), f"{off} for encoder 'words', whose dropout drops tokens")
        wanted = " or ".join(f'"{p}"' for p in sorted(poolings))
        _require(self.pooling in {None, *poolings}, "pooling", self.pooling, f"{wanted} for {_label(self.encoder)}")

    @property
    def source(self) -> Hashable:
        """The settings that decide load, collate and view."""
        return ("text", self._tokens, self.max_tokens, self.fill, self.prompt, self.deletion, self.crop, self.cutoff)

    @property
    def tuned(self) -> bool:
        """Whether pretrained weights are fine-tuned in full."""
        return checks.tuned(self)

    @property
    def files(self) -> bool:
        """Whether a string cell is a file's path: no, it is the text."""
        return False

    @property
    def _tokens(self) -> str:
        """Name of the tokenizer; a module of the user's own reads bytes."""
        return self.encoder if isinstance(self.encoder, str) and self.encoder != "small" else "bytes"

    def _tokenizer(self) -> Tokenizer:
        from multicl.modalities.text import tokens

        return tokens.tokenizer(self._tokens, self.max_tokens)

    def load(self, raw: Any, rng: random.Random | None) -> np.ndarray[Any, np.dtype[np.int32]]:
        """A string -> [T] int32 token ids. Of several strings, `rng` picks one; without `rng`, the first is taken.

        Raises:
            BadSample: not a string, no text in it, or no string with text among several.
            InputError: the tokenizer cannot be loaded.
        """
        texts = _texts(raw)
        text = rng.choice(texts) if rng is not None and len(texts) > 1 else texts[0]
        ids = self._tokenizer()(_clean(self.prompt + text))
        if len(ids) == 0:
            raise BadSample(f"the tokenizer of {self.encoder!r} finds no token in {text[:40]!r}")
        return ids

    def each(self, raw: Any) -> Sequence[Any]:
        """The texts of a cell: those of its list that are not blank, or the cell itself."""
        return [text for text in raw if isinstance(text, str) and text.strip()] if isinstance(raw, list) else [raw]

    def single(self, values: Any) -> bool:
        """Whether this is one text; a list holds cells, not the several texts of one cell."""
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
        """The batch itself, as the encoder's dropout makes views differ; a strong view may lose tokens."""
        if seeds is None or kind == "weak" or (not self.deletion and not self.cutoff and self.crop == 1):
            return batch
        from multicl.modalities.text import augment

        special = self._tokenizer().special
        return augment.thinned(batch, seeds, self.deletion, self.crop, self.cutoff, special)

    def build(self, weights: bool = True) -> nn.Module:
        """The Encoder: Batch -> [B, width] float32. Without `weights`, none are downloaded; after `restored`, nothing.

        Raises:
            InputError: the encoder is unknown, cannot be loaded, or does not fit these settings.
        """
        from multicl.modalities.text import encoders

        self._check_encoder()
        return encoders.build(self, weights)

    def save(self, folder: Path) -> None:
        """Write a Hugging Face encoder's config and tokenizer; the built-in encoders need nothing."""
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
            InputError: the encoder was a module of the user's own, which a folder cannot hold.
        """
        if not isinstance(self.encoder, str):
            raise checks.not_saved("text", self.encoder)
        offline = self.encoder in ("small", "words")
        return dataclasses.replace(self, encoder=self.encoder if offline else str(folder), pretrained=False)

    def forms(self, encoder: nn.Module) -> tuple[str, ...]:
        """The forms of `export` that can hold this encoder."""
        from multicl.modalities.text import export

        return export.forms(self, encoder)

    def half(self, encoder: nn.Module) -> Half:
        """A trained encoder as the text half of CLIP, SigLIP or CLAP; see `multicl.types.Half`.

        Raises:
            InputError: it is not such a half.
        """
        from multicl.modalities.text import export

        return export.half(self, encoder)

    def export(self, encoder: nn.Module, head: nn.Module | None, folder: Path, form: str) -> str:
        """Write a trained encoder for another library; returns how to use it, as Markdown.

        Args:
            head: the layers after it, if any. form: one of `forms`.

        Raises:
            InputError: that library has no place for the encoder's pooling or the head.
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
        """Each row of a batch or a view of it as text, for a page; the encoder's dropout does not show in it."""
        ids, mask, said = batch.get("ids").cpu(), batch.get("mask").cpu(), self._tokenizer().said
        return [_shown(said(row[kept].numpy())) for row, kept in zip(ids, mask, strict=True)]


def _label(encoder: object) -> str:
    return f"encoder {encoder!r}" if isinstance(encoder, str) else f"your own {type(encoder).__name__}"


def _texts(raw: Any) -> list[str]:
    """The strings of a cell that are not blank; BadSample if there are none."""
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
    """Valid Unicode: pairs of surrogates, which JSON may hold, are joined; lone ones become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
