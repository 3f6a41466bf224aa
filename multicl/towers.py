"""Towers: encoders, projection heads and the objectives' own parameters: one nn.Module, saved and loaded whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from multicl.batch_norm import NORMS, BatchNorm
from multicl.choices import check_settings
from multicl.graph import Term, check_graph, pairs_of, requested_views, targets_of, tower_of
from multicl.narrow import as_wide_as
from multicl.objectives.bilinear import Bilinear
from multicl.objectives.wrapper import layers
from multicl.pairs import View
from multicl.seeds import seed_everything
from multicl.types import Batch, InputError, Modality


@dataclass(frozen=True, kw_only=True)
class Head:
    """The projection from an encoder's features to the space in which a pair is compared."""

    dim: int = 128
    """Width of the space."""
    layers: int = 2
    """1: a linear map, as in CLIP; 2 or more: an MLP, as in SimCLR. 0: none, the features themselves."""
    hidden: int | None = None
    """Width of the MLP's hidden layers; None: the encoder's."""
    norm: Literal["none", "batch", "layer"] = "none"
    """Normalisation of the hidden layers. "batch" uses statistics over the rows of one rank: SimCLR's choice on one
    device. A single row is normalised by the running statistics."""
    bias: bool = True
    """Whether the last layer has a bias; CLIP's has none."""
    centred: bool = False
    """Apply batch norm without scale and shift to the output, so that rows have no common direction, whatever the
    encoder gives. Banks need this, because their slots are updated late."""

    def __post_init__(self) -> None:
        check_settings(self, "head.")
        for name, least in (("dim", 1), ("layers", 0), ("hidden", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"head.{name} must be {least} or more, got {value}")

    def build(self, width: int) -> tuple[nn.Module, int]:
        """(a head for features of that width, the width of its output)."""
        if self.layers == 0:
            return nn.Identity(), width
        hidden = self.hidden or width
        steps: list[nn.Module] = []
        for _ in range(self.layers - 1):
            steps += [nn.Linear(width, hidden), NORMS[self.norm](hidden), nn.ReLU()]
            width = hidden
        steps.append(nn.Linear(width, self.dim, bias=self.bias))
        if self.centred:
            steps.append(BatchNorm(self.dim, affine=False))
        return nn.Sequential(*steps), self.dim


class Request(NamedTuple):
    """One view to embed, all of its rows or some."""

    view: View
    batch: Batch | None
    """Its rows; None if there are none."""
    spaces: tuple[str | None, ...]
    """The spaces to project into; None: the encoder's features."""
    seed: tuple[int, ...]
    """Determines dropout."""
    features: Tensor | None = None
    """[B, W] used instead of the rows, if a frozen encoder has already computed them."""


Embeddings = dict[tuple[View, str | None], Tensor]
"""(view, space) -> [B, D] float32; the space None: the encoder's features [B, W]."""


class Towers(nn.Module):
    """All that trains: one encoder per tower, one head per (tower, space), one objective's module per term.

    Args:
        modalities: node -> settings. terms: the graph; targets must have their classes.
        heads: one for each space, or one Head for all.
        weights: False builds only the architecture, without any download (for loading).
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        terms: Sequence[Term],
        heads: Head | Mapping[str, Head] | None = None,
        weights: bool = True,
    ) -> None:
        super().__init__()
        check_graph(modalities, terms)
        self.recomputes = False
        """Whether encoders recompute layers in backward; see recompute.py."""
        self.modalities = dict(modalities)
        self.terms = list(terms)
        self.pairs, self.targets = pairs_of(terms), targets_of(terms)
        self.requests = requested_views(terms)
        self.spaces = tuple(dict.fromkeys(pair.space for pair in self.pairs))
        self.head_settings = _per_space(heads or Head(), self.spaces)
        self.towers = {node: tower_of(node, m) for node, m in modalities.items()}
        self.encoders = self._build_encoders(weights)
        self.heads = self._build_heads()
        self.objectives = self._build_objectives()

    def _build_encoders(self, weights: bool) -> nn.ModuleDict:
        encoders = nn.ModuleDict()
        first: dict[str, str] = {}
        for node, modality in self.modalities.items():
            tower = self.towers[node]
            if tower in first:
                _check_shared(tower, first[tower], node, self.modalities)
                continue
            first[tower] = node
            encoders[tower] = modality.build(weights)
        return encoders

    def _build_heads(self) -> nn.ModuleDict:
        heads = nn.ModuleDict()
        for pair in self.pairs:
            for node in filter(None, (pair.a, pair.b, pair.negatives)):
                name = _head_name(self.towers[node], pair.space)
                if name not in heads:
                    heads[name], _ = self.head_settings[pair.space].build(self.width(node))
        return heads

    def _build_objectives(self) -> nn.ModuleDict:
        objectives = nn.ModuleDict()
        for pair in self.pairs:
            objectives[pair.name] = pair.objective.build((self.dim(pair.a, pair.space), self.dim(pair.b, pair.space)))
        for target in self.targets:
            if not target.classes:
                raise InputError(f"target {target.name!r} has no classes: give classes=(...)")
            objectives[target.name] = target.objective.build((self.width(target.node), len(target.classes)))
        return objectives

    @property
    def notes(self) -> list[str]:
        """Messages for the user before training: a line for each pair of two towers that Bilinear compares."""
        pairs = [pair for pair in self.pairs if self.towers[pair.a] != self.towers[pair.b]]
        return [
            f"pair {pair.name!r}: Bilinear compares {pair.a!r} and {pair.b!r} by its matrix, so embeddings of one "
            "cannot be compared by cosine with those of the other"
            for pair in pairs
            if any(isinstance(objective, Bilinear) for objective in layers(pair.objective))
        ]

    def width(self, node: str) -> int:
        """W, width of the features of a node's encoder."""
        width = self.encoders[self.towers[node]].width
        assert isinstance(width, int), f"the encoder of {node!r} must have an int `width`, got {width!r}"
        return width

    def encoder(self, node: str) -> nn.Module:
        """The encoder that a node uses."""
        return self.encoders[self.towers[node]]

    def head(self, node: str, space: str) -> nn.Module:
        """The head that projects a node's features into one of its spaces."""
        return self.heads[_head_name(self.towers[node], space)]

    def spaces_of(self, node: str) -> tuple[str, ...]:
        """The spaces that a node is projected into."""
        return tuple(s for s in self.spaces if _head_name(self.towers[node], s) in self.heads)

    def embed(self, node: str, batch: Batch, spaces: Sequence[str | None]) -> list[Tensor]:
        """Embed one view of B rows: [B, D] float32 for each space; None: the encoder's features [B, W].

        Raises:
            InputError: the encoder's batch norm would have to train on one value, or its output is not [B, W].
        """
        try:
            with as_wide_as(encoder := self.encoders[self.towers[node]]) as narrow:
                h = encoder(batch)
        except ValueError as error:
            if len(batch) > 1 or "more than 1 value per channel" not in str(error):
                raise
            raise InputError(
                f"the encoder of {node!r} has a batch norm, which cannot train on 1 row, and a batch or chunk has just "
                "one: give another --train.chunk-size, or start a new --run with another --train.batch-size"
            ) from error
        wanted = [len(batch), self.width(node)]
        if not isinstance(h, Tensor) or list(h.shape) != wanted:  # missing rows would silently shift the others
            got = list(h.shape) if isinstance(h, Tensor) else type(h).__name__
            raise InputError(f"the encoder of {node!r} must give [rows, width], here {wanted}, got {got}")
        return self.project(node, h.float() if narrow else h, spaces)

    def project(self, node: str, h: Tensor, spaces: Sequence[str | None]) -> list[Tensor]:
        """Project features [B, W] of a node: [B, D] float32 for each space; None: the features themselves."""
        zs = []
        for space in spaces:
            head = nn.Identity() if space is None else self.heads[_head_name(self.towers[node], space)]
            x = h
            if (
                h.dtype == torch.float64
            ):  # of a user's own encoder; heads are float32, unless the user made them wide too
                x = h.to(next((p.dtype for p in head.parameters()), h.dtype))
            with as_wide_as(head):
                zs.append(head(x).float())
        return zs

    def forward(self, requests: Sequence[Request]) -> Embeddings:
        """Embed every view, each with its own seed; a view without rows gives [0, D]."""
        zs: Embeddings = {}
        for view, batch, spaces, seed, features in requests:
            seed_everything(*seed)
            if features is not None:
                found = self.project(view.node, features, spaces)
            elif batch is not None:
                found = self.embed(view.node, batch, spaces)
            else:
                found = [torch.zeros(0, self.dim(view.node, space), device=self.device) for space in spaces]
            zs.update({(view, space): z for space, z in zip(spaces, found, strict=True)})
        return zs

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device

    def dim(self, node: str, space: str | None) -> int:
        """Width of a node's vectors in a space; None: of its features."""
        settings = self.head_settings[space] if space is not None else None
        return settings.dim if settings and settings.layers else self.width(node)

    def frozen(self, node: str) -> bool:
        """Whether no parameter of the node's encoder trains; its heads still may."""
        return not any(p.requires_grad for p in self.encoders[self.towers[node]].parameters())

    def trains(self, node: str, spaces: Sequence[str | None]) -> bool:
        """Whether any parameter between the node's input and these spaces trains."""
        heads = [self.heads[_head_name(self.towers[node], space)] for space in spaces if space is not None]
        return not self.frozen(node) or any(p.requires_grad for head in heads for p in head.parameters())


def _head_name(tower: str, space: str) -> str:
    return f"{tower}/{space}"


def _per_space(heads: Head | Mapping[str, Head], spaces: Sequence[str]) -> dict[str, Head]:
    if isinstance(heads, Head):
        return dict.fromkeys(spaces, heads)
    if unknown := set(heads) - set(spaces):
        raise InputError(f"heads are given for {sorted(unknown)}, but the pairs' spaces are {sorted(spaces)}")
    return {space: heads.get(space, Head()) for space in spaces}


def _check_shared(tower: str, first: str, second: str, modalities: Mapping[str, Modality]) -> None:
    """Refuse nodes that share a tower but differ in more than their column and what the adapter lists as `own`."""
    a, b = modalities[first], modalities[second]
    own = {"column", "tower", *getattr(a, "own", ())}
    if type(a) is not type(b):
        raise InputError(
            f"nodes {first!r} and {second!r} share tower {tower!r} but are {type(a).__name__} and {type(b).__name__}"
        )
    for name in (f.name for f in fields(a)):  # type: ignore[arg-type]
        one: Any = getattr(a, name)
        other: Any = getattr(b, name)
        if name not in own and one != other:
            raise InputError(
                f"nodes {first!r} and {second!r} share tower {tower!r} but differ in {name}: {one!r} and {other!r}"
            )
