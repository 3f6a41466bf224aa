"""Text -> token ids: bytes, hashed words, or a Hugging Face tokenizer, loaded once per process and setting."""

from __future__ import annotations

import copy
import re
import unicodedata
import zlib
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from multicl.types import BadSample, InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as RustTokenizer
    from transformers import PreTrainedTokenizerBase

    Ids = np.ndarray[Any, np.dtype[np.int32]]

BUCKETS = 2**16
"""Rows of the embedding table of hashed words; row 0 is padding."""
BYTES = 2 + 256
"""Vocabulary of bytes: 0 is padding, 1 is [CLS], then the bytes."""
NGRAMS = (3, 4, 5)
"""Lengths of the character n-grams of a word."""


class Tokenizer(Protocol):
    """Text -> [T] int32 ids, cut to `limit`."""

    @property
    def pad(self) -> int:
        """Id of padding; any id will do, as padding is masked."""
        ...

    @property
    def limit(self) -> int:
        """Tokens after which texts are cut."""
        ...

    @property
    def left(self) -> bool:
        """Whether padding that is read like text goes to the left."""
        ...

    @property
    def special(self) -> tuple[int, ...]:
        """Ids of the tokens that are added to every text."""
        ...

    def __call__(self, text: str) -> Ids:
        """[T] int32."""
        ...

    def said(self, ids: Ids) -> str:
        """The text of ids, without special tokens, for a page."""
        ...


@lru_cache(maxsize=16)
def tokenizer(name: str, limit: int) -> Tokenizer:
    """The tokenizer "bytes" or "words", or that of a Hugging Face encoder; InputError if it cannot be loaded."""
    if name == "bytes":
        return ByteTokenizer(limit)
    if name == "words":
        return WordTokenizer(limit)
    from multicl.modalities.text import hub

    return HubTokenizer(name, hub.load_tokenizer(name), limit)


class ByteTokenizer:
    """[CLS] and UTF-8 bytes: any text of any language, and nothing to download. Ids in [0, 258)."""

    pad = 0
    left = False
    special = (1,)

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def __call__(self, text: str) -> Ids:
        """[T] int32, T in [1, limit]."""
        # a character takes at least one byte, so at most `limit` characters need encoding
        codes = np.frombuffer(text[: self.limit].encode()[: self.limit - 1], dtype=np.uint8)
        return np.concatenate([np.ones(1, np.int32), codes.astype(np.int32) + 2])

    def said(self, ids: Ids) -> str:
        """The bytes as UTF-8; a truncated character becomes U+FFFD."""
        return bytes(int(i) - 2 for i in ids if i >= 2).decode(errors="replace")


class WordTokenizer:
    """Words, their character n-grams and pairs of neighbours, hashed (fastText, arXiv:1607.04606 and 1607.01759).

    Ids in [1, 65536). Case and compatibility forms (NFKC) are folded. N-grams mark the ends of a word, and pairs the
    ends of the text. The hash, CRC-32, is the same in every process and version. The limit counts words.
    """

    pad = 0
    left = False
    special = ()

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def __call__(self, text: str) -> Ids:
        """[T] int32, about twenty a word; at least one for valid Unicode that is not blank."""
        folded = unicodedata.normalize("NFKC", text).casefold()
        words = re.findall(r"\w+|[^\w\s]", folded)[: self.limit]
        ids = [i for word in words for i in _parts(word)]
        ends = ["", *words, ""] if words else []
        ids += [_bucket(f"{a} {b}") for a, b in pairwise(ends)]
        return np.array(ids, dtype=np.int32)

    def said(self, ids: Ids) -> str:
        """The number of ids, as hashes cannot be turned back into words."""
        return f"{len(ids)} hashed pieces of words"


@lru_cache(maxsize=2**16)
def _parts(word: str) -> tuple[int, ...]:
    """Ids of a word and of its n-grams; "<at>" is the word, "<at" its beginning."""
    marked = f"<{word[:40]}>"  # scripts without spaces give long words
    grams = [marked[i : i + n] for n in NGRAMS for i in range(len(marked) - n + 1) if n < len(marked)]
    return tuple(_bucket(piece) for piece in [f"<{word}>", *grams])


def _bucket(piece: str) -> int:
    return 1 + zlib.crc32(piece.encode()) % (BUCKETS - 1)


class HubTokenizer:
    """A Hugging Face tokenizer with its special tokens.

    Raises:
        InputError: it has neither a padding nor an end token, or the limit leaves no room for text.
    """

    def __init__(self, name: str, inner: PreTrainedTokenizerBase, limit: int) -> None:
        self.name = name
        self.inner = inner
        self.limit = min(limit, inner.model_max_length)
        pad = inner.pad_token_id if inner.pad_token_id is not None else inner.eos_token_id
        if pad is None:
            raise InputError(
                f"the tokenizer of text encoder {name!r} has no padding token and no end token: set its pad_token, "
                "save it to a folder, and give that folder as the encoder"
            )
        self.pad = int(pad)
        self.left = inner.padding_side == "left"
        ends = (inner.cls_token_id, inner.sep_token_id, inner.bos_token_id, inner.eos_token_id)
        self.special = tuple(sorted({int(i) for i in ends if i is not None}))
        special = inner.num_special_tokens_to_add()
        if self.limit <= special:
            raise InputError(
                f"text setting max_tokens={limit}: the tokenizer of {name!r} adds {special} special tokens, so it must "
                f"be more than {special}"
            )

        self.fast = _fast(inner, self.limit)

    def __call__(self, text: str) -> Ids:
        """[T] int32, T <= limit; special tokens stay when a text is cut."""
        try:
            if self.fast is not None:
                ids = self.fast.encode(text).ids
            else:
                ids = self.inner(text, truncation=True, max_length=self.limit, verbose=False)["input_ids"]
        except Exception as error:  # the Rust tokenizers raise nothing narrower
            raise BadSample(f"the tokenizer of {self.name!r} cannot read {text[:40]!r}: {error}") from error
        return np.array(ids, dtype=np.int32)

    def said(self, ids: Ids) -> str:
        """The text that the tokenizer decodes; a word outside its vocabulary is its unknown token."""
        around = {*self.special, self.pad}
        return str(self.inner.decode([int(i) for i in ids if int(i) not in around]))

    @property
    def leads_with_cls(self) -> bool:
        """Whether every text begins with the [CLS] token, whose state "cls" pools."""
        return self.inner.cls_token_id is not None and int(self("a")[0]) == self.inner.cls_token_id


def _fast(inner: PreTrainedTokenizerBase, limit: int) -> RustTokenizer | None:
    """A fast tokenizer's core, configured once; for short texts its wrapper takes several times as long. None: slow."""
    if not inner.is_fast:
        return None
    core: RustTokenizer = copy.deepcopy(inner.backend_tokenizer)
    core.no_padding()
    core.enable_truncation(limit, direction=inner.truncation_side)
    core.encode_special_tokens = inner.split_special_tokens
    return core
