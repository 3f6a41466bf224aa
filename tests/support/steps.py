"""One step over small towers, and the same step written the plain way, with all graphs kept."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from toys import Vectors, rows

from multicl import Head, InfoNCE, Pair
from multicl.distributed import World
from multicl.pairs import Call
from multicl.seeds import seed_everything
from multicl.towers import Embeddings, Request, Towers
from multicl.training.chunks import cut
from multicl.training.looks import Look
from multicl.training.step import Outcome, exact_step
from multicl.types import Batch, Context, Embedded, Kind

Grads = dict[str, Tensor]


@dataclass(frozen=True)
class Words(Vectors):
    """Rows of any length, padded with noise that must not matter; dropout of whole tokens."""

    def collate(self, samples: Sequence[Tensor]) -> Batch:
        lengths = torch.tensor([len(s) for s in samples])
        ids = torch.full((len(samples), int(lengths.max()) + 3), 99)
        for line, sample in zip(ids, samples, strict=True):
            line[: len(sample)] = sample
        return Batch({"ids": ids, "lengths": lengths, "other": torch.zeros(len(ids), 2)}, padded=("ids",))

    def view(self, batch: Batch, seeds: Tensor | None, kind: Kind = "strong") -> Batch:
        return batch

    def build(self, weights: bool = True) -> nn.Module:
        return WordNet(self.width, self.dropout)


class WordNet(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.width, self.dropout = width, dropout
        self.table = nn.Embedding(100, width)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, batch: Batch) -> Tensor:
        ids = batch.get("ids")
        self.seen.append(tuple(ids.shape))
        mask = (torch.arange(ids.shape[1]) < batch.get("lengths")[:, None]).float()
        mask = nn.functional.dropout(mask, self.dropout, self.training)
        return torch.tanh((self.table(ids) * mask[..., None]).sum(1))


class Dice(nn.Module):
    """Draws from every generator there is: Python's, numpy's and torch's."""

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.tensor([random.random() for _ in x]) + torch.from_numpy(np.random.rand(len(x))).float()
        return x * (noise + torch.rand(len(x)))[:, None]


@dataclass(frozen=True)
class Built(Vectors):
    """Vectors through a net that is given as a function of no arguments."""

    net: Callable[[], nn.Module] = nn.Identity

    def build(self, weights: bool = True) -> nn.Module:
        return Through(self.net(), self.width)


class Through(nn.Module):
    def __init__(self, net: nn.Module, width: int) -> None:
        super().__init__()
        self.net, self.width = net, width

    def forward(self, batch: Batch) -> Tensor:
        return self.net(batch.get("x"))


def three(dropout: float = 0.0, norm: Any = "none") -> Towers:
    """Three towers and four terms: across, within, with a learnable temperature, and a second space."""
    seed_everything("test")
    nodes = {"a": Vectors(dropout=dropout), "b": Vectors(width=5, dropout=dropout), "w": Words(dropout=dropout)}
    terms = [
        Pair("a", "b", InfoNCE(0.3, learnable=True)),
        Pair("a", "a", weight=0.5, space="own"),
        Pair("w", "w", InfoNCE(0.2)),
        Pair("w", "b", weight=2.0),
    ]
    return Towers(nodes, terms, Head(dim=7, norm=norm))


def tied() -> Towers:
    """Two nodes through one tower."""
    seed_everything("test")
    return Towers({"a": Vectors(tower="t"), "b": Vectors(tower="t")}, [Pair("a", "b", InfoNCE(0.3, learnable=True))])


def cells(towers: Towers, n: int = 8) -> dict[str, Batch]:
    """Node -> n rows; words have lengths 1 to 9, in no order."""
    data = rows(n)
    found = {node: Batch({"x": torch.tensor([r[node] for r in data])}) for node in towers.modalities if node != "w"}
    if "w" in towers.modalities:
        g = torch.Generator().manual_seed(5)
        lines = [torch.randint(0, 99, (1 + 5 * i % 9,), generator=g) for i in range(n)]
        found["w"] = Words().collate(lines)
    return found


def looks(
    towers: Towers, batches: dict[str, Batch | None], make: Callable[[Batch], Batch] = lambda batch: batch
) -> list[Look]:
    """A look for each view; `make` makes every view."""
    return [
        Look(batches[view.node], make, (Request(view, None, spaces, (7, World.current().rank, number)),))
        for number, (view, spaces) in enumerate(towers.requests.items())
    ]


class Ids:
    """An id of its own for each row, and for negatives ids that no row has."""

    def __call__(self, pair: Pair, row: Tensor, negatives: bool = False) -> Tensor:
        return row + 100 + 10_000 * negatives


def context(pair: Pair, call: Call) -> Context:
    return Context(World.current(), symmetric=pair.symmetric and call.both, both=call.both)


def step(towers: Towers, seen: list[Look], chunk: int | None = None, **options: Any) -> tuple[Outcome, Grads]:
    """An exact step's outcome and gradients."""
    towers.zero_grad()
    options = {"wrapped": towers, "backward": torch.Tensor.backward, **options}
    outcome = exact_step(
        options.pop("wrapped"), towers, seen, Ids(), context, options.pop("backward"), chunk,
        **options,
    )  # fmt: skip
    return outcome, grads_of(towers)


def grads_of(towers: Towers) -> Grads:
    return {name: p.grad.clone() for name, p in towers.named_parameters() if p.grad is not None}


def kept(towers: Towers, seen: list[Look], chunk: int | None = None) -> tuple[Tensor, Grads]:
    """The reference: the same chunks, each with its graph kept, and plain backward passes of the loss."""
    towers.zero_grad()
    z: Embeddings = {}
    for look in seen:
        if look.batch is None or chunk is None:
            found = towers(look.requests())
            z |= {key: v if v.requires_grad else v.requires_grad_() for key, v in found.items()}
            continue
        parts = [(part.rows, towers(part.requests())) for part in cut(look, chunk)]
        for key in parts[0][1]:
            order = torch.cat([torch.arange(len(look))[at] for at, _ in parts])
            z[key] = torch.cat([found[key] for _, found in parts])[order.argsort()]
    row = {r.view: look.batch.row if look.batch is not None else torch.arange(0) for look in seen for r in look.readers}
    total = torch.zeros(())
    for pair in towers.terms:  # one backward pass per pair, with all embeddings: ranks must reduce in one order
        (call,) = pair.calls
        a, b = (Embedded(z[view, pair.space], row[view], row[view] + 100) for view in (call.a, call.b))
        a, b = a[torch.isin(a.row, b.row)], b[torch.isin(b.row, a.row)]
        loss = pair.weight * towers.objectives[pair.name](a, b, context(pair, call))["loss"]
        loss.backward(retain_graph=True)
        total = total + loss.detach()
    trained = [(name, p) for name, p in towers.named_parameters() if p.requires_grad]
    return total, {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in trained}


def apart(found: Grads, wanted: Grads) -> float:
    """The largest difference of a tensor's gradient, relative to its norm (to all gradients' where that is tiny)."""
    every = torch.cat([g.flatten() for g in wanted.values()]).norm()
    assert found.keys() >= wanted.keys()
    return max(((found[k] - g).norm() / max(g.norm(), 1e-3 * every)).item() for k, g in wanted.items())
