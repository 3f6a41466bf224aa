"""LoRA (arXiv:2106.09685) with peft: only low-rank updates of a net's linear layers are trained."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from typing import Any, TypeVar

from torch import nn

from multicl.types import InputError

Module = TypeVar("Module", bound=nn.Module)


def adapted(net: Module, rank: int, modality: str) -> Module:
    """The net itself, modified in place: only updates of this rank, scaled by 2, are trained. Rank 0: unchanged.

    Raises:
        InputError: peft is not installed, or the net has no linear layers.
    """
    if not rank:
        return net
    if find_spec("peft") is None:
        raise InputError(f"{modality} setting lora={rank} needs peft: pip install 'multicl[peft]'")
    from peft import LoraConfig, inject_adapter_in_model
    from transformers import PreTrainedModel

    linear = [name for name, part in net.named_modules() if isinstance(part, nn.Linear)]
    if not linear and not isinstance(net, PreTrainedModel):
        raise InputError(f"{modality} setting lora={rank}: a {type(net).__name__} has no linear layers to update")
    training = net.training
    targets = "all-linear" if isinstance(net, PreTrainedModel) else linear
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets), net)
    net.train(training)
    return net


def merged(encoder: Module) -> Module:
    """A copy of the encoder with its LoRA updates merged into its weights; the encoder itself if it has none."""
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
