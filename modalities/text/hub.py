"""Hugging Face encoders by name or folder. Every failure is an InputError that names the encoder and the way out."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from multicl.modalities import pretrained
from multicl.types import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

T = TypeVar("T")
KINDS = (
    'Text encoders: "small" and "words" (built in, offline), a Hugging Face name such as "distilbert-base-uncased", '
    "a folder with config.json and a tokenizer, or in Python your own nn.Module."
)


def load_config(name: str) -> PreTrainedConfig:
    """A new copy of the text model's config; of a text-image or text-audio model (CLIP, CLAP), of its text half's."""
    from transformers import AutoConfig

    config: PreTrainedConfig = _load(name, AutoConfig.from_pretrained).get_text_config()
    return config


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer that an encoder's files hold."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one text at a time, in workers that may be forks
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = _load(name, AutoTokenizer.from_pretrained)
    return tokenizer


def load_model(name: str, config: PreTrainedConfig) -> tuple[PreTrainedModel, set[int]]:
    """The pretrained model in float32, from safetensors alone, and the `id`s of parameters that the files lack."""
    return _load(name, pretrained.load_part, config=config)


def build_model(name: str, config: PreTrainedConfig) -> PreTrainedModel:
    """The architecture alone, with random weights."""
    try:
        model: PreTrainedModel = pretrained.fresh(config)
    except ValueError as error:  # no model belongs to this config
        raise _refusal(name, error) from error
    return model


def read_json(name: str, file: str) -> Any:
    """A JSON file among an encoder's files; None if there is none."""
    place, offline = locate(name)
    path = Path(place) / file
    if not Path(place).is_dir():
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        try:
            path = Path(hf_hub_download(place, file, local_files_only=offline))
        except EntryNotFoundError:  # or offline, and never downloaded
            return None
        except Exception as error:  # of the hub or the network, of many kinds
            raise _refusal(name, error) from error
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except ValueError as error:
        raise _refusal(name, f"{file} is no JSON: {error}") from error


def _load(name: str, loader: Callable[..., T], **settings: Any) -> T:
    place, offline = locate(name)
    try:
        return loader(place, local_files_only=offline, **settings)
    except Exception as error:  # loaders raise anything on damaged files
        raise _refusal(name, error) from error


@lru_cache(maxsize=64)
def locate(name: str) -> tuple[str, bool]:
    """Folder or hub id of an encoder, and whether only local files are to be used.

    The hub is asked once, with a short timeout: its loaders retry for most of a minute where there is no network.

    Raises:
        InputError: no folder of that name, and the hub does not know it either.
    """
    if Path(name).is_dir():
        return name, True
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    repo = name.removeprefix("hf/")
    try:
        HfApi().model_info(repo, timeout=10)
    except (HFValidationError, RepositoryNotFoundError) as error:
        raise _refusal(name, "there is no such folder, nor such a model on the hub") from error
    except Exception:  # no network, a timeout, offline mode: an earlier download may do
        return repo, True
    return repo, False


def _refusal(name: str, why: object) -> InputError:
    near = difflib.get_close_matches(name, ["small", "words"], n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    reason = pretrained.first_line(why).rstrip(".")
    return InputError(f"text encoder {name!r} cannot be had: {reason}.{hint} {KINDS}")
