"""Copies weights between a pair of towers and a two-tower model of transformers (CLIP, SigLIP, CLAP).

The encoders of such a pair are transformers' own halves. What remains are the projections, the temperature and the
bias, which a run keeps in its heads and in its objective.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from multicl.objectives.tempered import TemperedModule
from multicl.types import Half, InputError

if TYPE_CHECKING:
    from multicl.pairs import Pair
    from multicl.towers import Towers

SCALES = ("logit_scale", "logit_scale_a", "logit_scale_t")
"""Names under which these models keep the logarithm of 1 / temperature; CLAP has one for each direction."""


@runtime_checkable
class HalfOfTwo(Protocol):
    """What an adapter provides besides `Modality` if its encoder can be one half of such a model."""

    projection: ClassVar[str]
    """Name, in the whole model, of the projection that follows this half."""

    def half(self, encoder: nn.Module) -> Half:
        """A trained encoder as transformers' half of the model.

        Raises:
            InputError: the encoder is not half of a two-tower model.
        """
        ...


def begin(towers: Towers, pair: Pair, whole: nn.Module, keep: Collection[str] = ()) -> None:
    """Copy a model's projections, temperature and bias into a pair, whose encoders already have their weights.

    If the model has a temperature for each direction, the geometric mean of both is taken.

    Args:
        keep: "temperature", "bias": what to leave as the objective has it.

    Raises:
        InputError: the heads do not have the shape of the model's projections.
    """
    with torch.no_grad():
        for ours, theirs in _projections(towers, pair, whole):
            ours.copy_(theirs)
        objective = _tempered(towers.objectives[pair.name])
        if objective is not None and objective.log_scale is not None and "temperature" not in keep:
            scale = _mean_scale(whole)
            objective.most = max(objective.most, float(scale))
            objective.log_scale.fill_(scale)
        bias, its = getattr(objective, "bias", None), getattr(whole, "logit_bias", None)
        if bias is not None and its is not None and "bias" not in keep:
            bias.copy_(its.reshape(bias.shape))


def between(towers: Towers, pair: Pair, whole: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters of a model outside its two halves, by name: projections, temperature and bias."""
    projections = [getattr(towers.modalities[node], "projection", None) for node in (pair.a, pair.b)]
    own = {*SCALES, "logit_bias", *projections}
    return [(name, p) for name, p in whole.named_parameters() if name.partition(".")[0] in own]


def temperature_of(whole: nn.Module) -> float:
    """The temperature of a model; the geometric mean if it has one for each direction."""
    return math.exp(-float(_mean_scale(whole)))


def joined(towers: Towers, pair: Pair, config: Any, halves: tuple[Half, Half]) -> Any:
    """Build the whole model, with the weights of a pair's encoders and heads, and its temperature and bias.

    Args:
        config: of the whole model. halves: of the pair's two nodes.

    Raises:
        InputError: the encoders or heads do not fit such a model.
    """
    from transformers import AutoModel

    whole: Any = AutoModel.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    for half in halves:
        place = next((part for part in whole.children() if type(part) is type(half.model)), None)
        if place is None:
            raise InputError(f"a {type(whole).__name__} cannot hold a {type(half.model).__name__}")
        place.load_state_dict(half.model.state_dict())
    with torch.no_grad():
        for ours, theirs in _projections(towers, pair, whole):
            theirs.copy_(ours)
        objective = _tempered(towers.objectives[pair.name])
        if objective is not None:
            for scale in _scales(whole):
                scale.fill_(_log_scale(objective))
        if hasattr(whole, "logit_bias"):  # initialised at random; 0 if our objective has no bias
            bias = getattr(objective, "bias", None)
            whole.logit_bias.fill_(0.0 if bias is None else float(bias.detach()))
    return whole.eval()


def _projections(towers: Towers, pair: Pair, whole: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """The parameters of the pair's heads, each with its counterpart in the whole model."""
    found: list[tuple[Tensor, Tensor]] = []
    for node in (pair.a, pair.b):
        modality = towers.modalities[node]
        assert isinstance(modality, HalfOfTwo)
        head, theirs = towers.head(node, pair.space), getattr(whole, modality.projection, nn.Identity())
        here, there = _layers(head), _layers(theirs)
        shapes = [[(type(layer), [p.shape for p in layer.parameters()]) for layer in part] for part in (here, there)]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"the head of {node!r} is {_said(here)}, but the projection of a {type(whole).__name__} is "
                f"{_said(there)}: keep the checkpoint's head and encoders"
            )
        for mine, its in zip(here, there, strict=True):
            found += list(zip(mine.parameters(), its.parameters(), strict=True))
    return found


def _layers(part: nn.Module) -> list[nn.Module]:
    """The layers of a head or a projection, in order, without containers and identities."""
    return [m for m in part.modules() if not any(m.children()) and not isinstance(m, nn.Identity)]


def _said(layers: list[nn.Module]) -> str:
    return ", ".join(map(repr, layers)) or "none"


def _tempered(objective: nn.Module) -> TemperedModule | None:
    """The part of an objective that owns the temperature; None if there is none."""
    return next((part for part in objective.modules() if isinstance(part, TemperedModule)), None)


def _scales(whole: nn.Module) -> list[nn.Parameter]:
    return [getattr(whole, name) for name in SCALES if hasattr(whole, name)]


def _mean_scale(whole: nn.Module) -> Tensor:
    return torch.stack([scale.detach().float().squeeze() for scale in _scales(whole)]).mean()


def _log_scale(objective: TemperedModule) -> float:
    """The logarithm of 1 / temperature at the end of the run."""
    if objective.log_scale is not None:
        return float(objective.log_scale.detach())
    return -math.log(objective.settings.temperature_at(1.0))
