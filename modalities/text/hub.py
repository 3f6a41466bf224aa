"""Hugging Face encoders by name or folder. Every failure is an InputError that names the encoder and the way out."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multicl.modalities.pretrained import build, fetch, first_line, locate
from multicl.types import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

KINDS = (
    'Text encoders: "small" and "words" (built in, offline), a Hugging Face name such as "distilbert-base-uncased", '
    "a folder with config.json and a tokenizer, or in Python your own nn.Module."
)


def load_config(name: str) -> PreTrainedConfig:
    """A new copy of the model's config; for a text-image or text-audio model (CLIP, CLAP), of its text half's."""
    from transformers import AutoConfig

    with _refused(name):
        config: PreTrainedConfig = fetch(AutoConfig.from_pretrained, name).get_text_config()
    return config


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer in an encoder's files."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one text at a time, in workers that may be forks
    from transformers import AutoTokenizer

    with _refused(name):
        tokenizer: PreTrainedTokenizerBase = fetch(AutoTokenizer.from_pretrained, name)
    return tokenizer


def build_model(name: str, config: PreTrainedConfig, weights: bool) -> tuple[PreTrainedModel, set[int]]:
    """As `pretrained.build`."""
    with _refused(name):
        return build(name, config, weights)


def read_json(name: str, file: str) -> Any:
    """A JSON file among an encoder's files; None if there is none."""
    with _refused(name):
        place, offline = locate(name)
        path = Path(place) / file
        if not Path(place).is_dir():
            from huggingface_hub import hf_hub_download
            from huggingface_hub.errors import EntryNotFoundError

            try:
                path = Path(hf_hub_download(place, file, local_files_only=offline))
            except EntryNotFoundError:  # or, without the hub, never downloaded
                return None
        try:
            return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        except ValueError as error:
            raise ValueError(f"{file} is not JSON: {error}") from error


@contextmanager
def _refused(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # files of others, the hub and the network raise anything: one message
        near = difflib.get_close_matches(name, ["small", "words"], n=1, cutoff=0.6)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        reason = first_line(error).rstrip(".")
        raise InputError(f"text encoder {name!r} cannot be loaded: {reason}.{hint} {KINDS}") from error
