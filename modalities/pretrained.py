"""Weights of transformers: loaded without its bars and tables, and what the files lack is said in a line."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

log = logging.getLogger(__name__)


@contextmanager
def quiet() -> Iterator[None]:
    """Without bars, and the table of weights that only other heads need; those that matter are checked elsewhere."""
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


def load(name: str, **settings: Any) -> tuple[Any, set[int]]:
    """A model in float32, from safetensors alone, and the `id`s of its parameters that the files lack.

    Args:
        name: of the hub, or a folder. settings: of `AutoModel.from_pretrained`.

    Raises:
        OSError, ValueError, RuntimeError: as transformers.
    """
    from transformers import AutoModel

    with quiet():
        model, found = AutoModel.from_pretrained(
            name, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **settings
        )
    return model, {id(p) for key, p in model.named_parameters() if key in found["missing_keys"]}


def recompute(model: Any, enable: bool) -> None:
    """Gradient checkpointing of a model of transformers, on or off.

    Raises:
        ValueError: the model has no layers that it can compute again.
    """
    which = "enable" if enable else "disable"
    newer = f"activation_checkpointing_{which}"
    getattr(model, newer if hasattr(model, newer) else f"gradient_checkpointing_{which}")()
    if hasattr(model, "_require_grads_hook"):  # which only torch's older way of recomputing needs
        model.disable_input_require_grads()


def warn_of_absent(name: str, used: nn.Module, absent: set[int]) -> None:
    """Log which parameters of the part that is used begin at random; `absent`: of `load`."""
    if lost := [key for key, parameter in used.named_parameters() if id(parameter) in absent]:
        log.warning("%s lacks %d weights of its architecture, which begin at random: %s", name, len(lost), lost[0])
