"""Loading models of transformers by name or folder, without its progress bars and tables of weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

log = logging.getLogger(__name__)

LAYERDROPS = ("layerdrop", "layer_drop", "encoder_layerdrop", "decoder_layerdrop")
"""Keys of LayerDrop in transformers' configs."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and tables of unused weights; `warn_of_absent` logs those that matter."""
    from transformers.utils import logging as theirs

    before, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity(logging.ERROR)
    theirs.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        theirs.set_verbosity(before)
        if bars:
            theirs.enable_progress_bar()  # type: ignore[no-untyped-call]


@lru_cache(maxsize=64)
def locate(name: str) -> tuple[str, bool]:
    """The folder or hub id (without "hf/") of a model, and whether to load local files only.

    Asks the hub once, with a short timeout: without a network, its loaders would retry for half a minute.

    Raises:
        OSError: there is no such folder, and no such model on the hub.
    """
    if Path(name).is_dir():
        return name, True
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    repo = name.removeprefix("hf/")
    try:
        HfApi().model_info(repo, timeout=10)
    except (HFValidationError, RepositoryNotFoundError) as error:
        raise OSError("there is no such folder, and no such model on the hub") from error
    except Exception:  # no network, a timeout, offline mode: the cache may have the model
        return repo, True
    return repo, False


def fetch(loader: Callable[..., Any], name: str, **settings: Any) -> Any:
    """The result of `loader`, one of transformers' `from_pretrained`, for a hub name or a folder.

    Raises:
        OSError: the name is neither, or was never downloaded and there is no network. Others: as the loader.
    """
    place, offline = locate(name)
    return loader(place, local_files_only=offline, **settings)


def class_of(config: Any) -> Any:
    """The class that builds a config's model: AutoModel, or the class named like the config if AutoModel does not know
    it (halves of SigLIP and CLAP)."""
    import transformers

    beside = type(config).__name__.removesuffix("Config") + "Model"
    known = type(config) in transformers.MODEL_MAPPING
    return transformers.AutoModel if known else getattr(transformers, beside, transformers.AutoModel)


def fresh(config: Any) -> Any:
    """The architecture alone, with random weights.

    Raises:
        ValueError: no model belongs to this config.
    """
    owner = class_of(config)
    create = getattr(owner, "from_config", None) or owner._from_config
    return create(config, dtype=torch.float32)


def load(name: str, config: Any = None, **settings: Any) -> tuple[Any, set[int]]:
    """A model loaded from safetensors files only, and the `id`s of the parameters that the files lack.

    The model is in float32: a checkpoint in half precision would otherwise be trained in half precision.

    Args:
        name: a hub name or a folder. config: replaces the checkpoint's. settings: for `AutoModel.from_pretrained`.

    Raises:
        OSError, ValueError, RuntimeError: as transformers.
    """
    from transformers import AutoModel

    with quiet():
        model, found = fetch(
            (AutoModel if config is None else class_of(config)).from_pretrained, name,
            config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **settings,
        )  # fmt: skip
    own_storage(model)
    return model, {id(p) for key, p in model.named_parameters() if key in found["missing_keys"]}


def build(name: str, config: Any, weights: bool, **settings: Any) -> tuple[Any, set[int]]:
    """A configuration's model and the ids of absent parameters, as `load`; without `weights`: random weights, no ids.

    If half of a two-tower model lacks weights when loaded alone, it is taken out of the loaded whole: some models, such
    as CLAP, store the weights of their halves under names that the halves do not look for.

    Raises:
        OSError, ValueError, RuntimeError: as transformers.
    """
    if not weights:
        return fresh(config), set()
    from transformers import AutoConfig

    model, absent = load(name, config=config, **settings)
    whole: Any = fetch(AutoConfig.from_pretrained, name) if absent else None
    for key in ("vision_config", "text_config", "audio_config"):
        if type(getattr(whole, key, None)) is type(config):
            setattr(whole, key, config)
            both, lost = load(name, config=whole, **settings)
            for part in both.children():
                if type(part) is type(model):
                    return part, lost
    return model, absent


def without_layerdrop(config: Any, whose: str) -> None:
    """Turn off LayerDrop, which would leave whole layers without gradients at random, and log it."""
    for key in LAYERDROPS:
        if getattr(config, key, 0):
            log.warning("%s: %s %s is set to 0", whose, key, getattr(config, key))
            setattr(config, key, 0.0)


def mostly(model: nn.Module, absent: set[int]) -> bool:
    """Whether most of a model's parameters are absent, so that its files must be another model's."""
    parameters = list(model.parameters())
    return 2 * sum(id(p) in absent for p in parameters) > len(parameters)


def own_storage(model: nn.Module) -> None:
    """Give every parameter and buffer its own storage.

    Parameters that a file holds in one tensor are loaded as views of it, which safetensors refuses to save.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.untyped_storage().nbytes() > tensor.nbytes:
            tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)


def recompute(model: Any, enable: bool) -> None:
    """Turn gradient checkpointing of a transformers model on or off.

    Raises:
        ValueError: the model has no layers that can be recomputed.
    """
    which = "enable" if enable else "disable"
    newer = f"activation_checkpointing_{which}"
    getattr(model, newer if hasattr(model, newer) else f"gradient_checkpointing_{which}")()
    if hasattr(model, "_require_grads_hook"):  # only torch's older, reentrant checkpointing needs it
        model.disable_input_require_grads()


def warn_of_absent(name: str, used: nn.Module, absent: set[int]) -> None:
    """Log how many parameters of `used` start at random, and one of their names; `absent`: as from `load`."""
    if lost := [key for key, parameter in used.named_parameters() if id(parameter) in absent]:
        log.warning("%s lacks %d weights of its architecture, initialised at random: %s", name, len(lost), lost[0])


def first_line(error: object) -> str:
    """The first line of an error's message; the name of its class if the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
