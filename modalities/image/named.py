"""Nets of torchvision and timm by name, without their classifiers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from torch import nn

from multicl.modalities.image.color import IMAGENET, Stats
from multicl.types import InputError

KINDS = (
    '"small", a torchvision classifier ("resnet18"), "timm/NAME", "hf/ORG/NAME" (Hugging Face), '
    'a folder with config.json ("./my_model"), or an nn.Module of your own'
)


def torchvision_net(name: str, inputs: int, weights: bool, cifar_stem: bool = False) -> tuple[nn.Module, Stats]:
    """A classifier of torchvision without its last layer, and the normalisation of its pictures.

    Args:
        inputs: number of channels. weights: fetch the default ones.
        cifar_stem: a ResNet begins with a 3x3 convolution of stride 1 and no pooling (SimCLR, appendix B.9).

    Raises:
        InputError: an unknown name, weights that cannot be fetched, or `cifar_stem` for a net that is not a ResNet.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        near = get_close_matches(name, known, n=3, cutoff=0.5)
        raise InputError(f"unknown image encoder {name!r}; it may be {KINDS}. Similar names: {near or known}")
    best = models.get_model_weights(name).DEFAULT
    try:
        with _only_tensors(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # about Inception's initialisation
            net: nn.Module = models.get_model(name, weights=best if weights else None)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{name}: its weights cannot be fetched ({error}); pretrained=False starts from random weights"
        ) from error
    _strip(net, len(best.meta["categories"]))
    if cifar_stem:
        if not isinstance(net, models.ResNet):
            raise InputError(f"stem='cifar' is for ResNets, and {name!r} is a {type(net).__name__}; use stem='default'")
        net.conv1 = nn.Conv2d(inputs, net.conv1.out_channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        net.maxpool = nn.Identity()
    adapt_input(net, inputs)
    transform = best.transforms()
    return net, (tuple(transform.mean), tuple(transform.std))


def timm_net(name: str, inputs: int, weights: bool) -> tuple[nn.Module, Stats]:
    """A net of timm without its classifier, and the normalisation of its pictures.

    Raises:
        InputError: timm is not installed, it knows no such name, or weights cannot be fetched.
    """
    try:
        import timm
    except ImportError:
        raise InputError(f"the image encoder 'timm/{name}' needs timm: pip install 'multicl[timm]'") from None
    if not timm.is_model(name):
        near = get_close_matches(name.partition(".")[0], timm.list_models(), n=3, cutoff=0.5)
        raise InputError(f"timm has no model {name!r}; similar names: {near or 'none (see timm.list_models())'}")
    try:
        net: nn.Module = timm.create_model(name, pretrained=weights, num_classes=0, in_chans=inputs)
    except Exception as error:  # hub, network or an unknown tag: timm raises many kinds
        raise InputError(f"timm/{name} cannot be built ({error}); pretrained=False fetches nothing") from error
    data: Any = timm.data  # untyped
    config = data.resolve_data_config(model=net)
    plain = inputs == 3
    return net, (tuple(config["mean"]), tuple(config["std"])) if plain else IMAGENET


def adapt_input(net: nn.Module, inputs: int) -> None:
    """Make the first convolution take `inputs` channels, in place.

    For one channel, its weights for RGB are summed, so that grey pictures give what they gave before. Two channels get
    the weights of red and green, scaled by 3 / 2, as in timm.

    Raises:
        InputError: the net has no convolution.
    """
    first = next((module for module in net.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None:
        raise InputError(f"{type(net).__name__} has no convolution that could take {inputs} channels")
    before = first.in_channels
    if before == inputs:
        return
    assert first.groups == 1, "a first convolution mixes its channels"
    old = first.weight.detach()
    kept = old.sum(1, keepdim=True) if inputs == 1 else old[:, :inputs] * (before / inputs)
    first.in_channels, first.weight = inputs, nn.Parameter(kept.clone())


def _strip(net: nn.Module, classes: int) -> None:
    """Remove the last layer with `classes` outputs and auxiliary classifiers (Inception's), in place."""
    off = {"aux1": None, "aux2": None, "AuxLogits": None, "aux_logits": False}
    off["transform_input"] = False  # pretrained Inceptions would normalise again
    for name, value in off.items():
        if hasattr(net, name):
            setattr(net, name, value)
    last = [
        name
        for name, module in net.named_modules()
        if classes == (getattr(module, "out_features", None) or getattr(module, "out_channels", None))
    ]
    net.set_submodule(last[-1], nn.Identity())


@contextmanager
def _only_tensors() -> Iterator[None]:
    """Make torch load nothing but tensors: torchvision's weights are pickles."""
    key = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(key)
    os.environ[key] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before
