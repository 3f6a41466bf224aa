"""Tiny transformers with tokenizers, built from configs, as folders of transformers and of sentence-transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WORDS = ["a", "b", "c", "d", "e", "f", "cat", "dog", "sat", "mat", "query", ":"]
SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
TEXTS = ["a cat", "the dog sat on a mat a b c d e f " * 3, "b", "cat cat dog", "query: a mat"]


def word_level() -> PreTrainedTokenizerFast:
    """Sixteen tokens, <s> and </s> around a text."""
    vocabulary = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", pad_token="<pad>", cls_token="<s>", sep_token="</s>"
    )


def bert(folder: Path, seed: int = 0) -> Path:
    """A BERT of two layers and its tokenizer; weights large enough for texts to differ."""
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=16, max_position_embeddings=32, pad_token_id=1, initializer_range=0.3, **SIZE
    )
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    word_level().save_pretrained(folder)
    return folder


def gpt2(folder: Path, seed: int = 0) -> Path:
    """A GPT-2 of two layers whose tokenizer adds no special tokens and pads on the left."""
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=16, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=2, eos_token_id=2,
        initializer_range=0.3,
    )  # fmt: skip
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    vocabulary = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", eos_token="</s>", padding_side="left"
    )
    tokenizer.save_pretrained(folder)
    return folder


def as_sentence(folder: Path, pooling: dict[str, Any], parts: Sequence[str] = ("Normalize",), path: str = "") -> Path:
    """Make an encoder's folder one of sentence-transformers, with a pooling's settings and the modules after it."""
    kinds = [("Transformer", path), ("Pooling", "1_Pooling"), *((p, f"{i}_{p}") for i, p in enumerate(parts, 2))]
    modules = [
        {"idx": i, "name": str(i), "path": place, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, place) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    for _, place in kinds[1:]:
        (folder / place).mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 16, "do_lower_case": false}')
    return folder
