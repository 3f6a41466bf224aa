"""LoRA (arXiv:2106.09685) by peft: a transformer whose linear maps learn updates of low rank, and nothing else."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from multicl.types import InputError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    Module = TypeVar("Module", bound=nn.Module)


def adapted(model: PreTrainedModel, rank: int) -> PreTrainedModel:
    """The model, in place: updates of that rank, scaled by 2, are all that trains; 0: as it was.

    Raises:
        InputError: peft is not installed.
    """
    if not rank:
        return model
    if find_spec("peft") is None:
        raise InputError(f"text setting lora={rank} needs peft: pip install 'multicl[peft]'")
    from peft import LoraConfig, inject_adapter_in_model

    training = model.training
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"), model)
    model.train(training)
    return model


def merged(encoder: Module) -> Module:
    """The encoder with its updates added to its weights: a copy, or itself where it has none."""
    if find_spec("peft") is None:
        return encoder
    from peft.tuners.lora import LoraLayer

    names = [name for name, part in encoder.named_modules() if isinstance(part, LoraLayer)]
    if not names:
        return encoder
    plain = copy.deepcopy(encoder)
    for name in names:
        layer: Any = plain.get_submodule(name)
        layer.merge()
        plain.set_submodule(name, layer.get_base_layer())
    plain.requires_grad_(True)
    return plain
