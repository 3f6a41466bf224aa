"""Every objective and every function on the rows of one rank; in a world of one, on all rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from multicl import (
    Bilinear,
    CoSENT,
    Decoupled,
    HardestNegatives,
    HardNegative,
    InfoNCE,
    Margin,
    Matryoshka,
    NTXent,
    Sigmoid,
    SupCon,
    SwAV,
    functional,
)
from multicl.distributed import World
from multicl.types import Context, Embedded, Extra, Objective

OBJECTIVES: dict[str, tuple[Objective, dict[str, Any]]] = {
    "info_nce": (InfoNCE(0.2, learnable=True), {}),
    "info_nce, ids ignored": (InfoNCE(0.2, learnable=True), {"equal_ids": "ignore"}),
    "info_nce, dot": (InfoNCE(0.5, similarity="dot", both_directions=False), {}),
    "own negative": (InfoNCE(0.2, learnable=True, own_negative=3.0), {"more": "all"}),
    "own negative, one node": (InfoNCE(0.5, own_negative=0.2), {"symmetric": True, "more": "all"}),
    "queue alone": (InfoNCE(0.2, learnable=True, in_batch=False), {"more": "all"}),
    "queue alone, one node": (InfoNCE(0.5, in_batch=False), {"symmetric": True, "more": "all", "equal_ids": "ignore"}),
    "nt_xent": (NTXent(0.5, learnable=True), {"symmetric": True}),
    "sup_con": (SupCon(0.3, learnable=True), {"symmetric": True}),
    "sigmoid": (Sigmoid(bias=-2.0), {}),
    "sigmoid, ids ignored": (Sigmoid(bias=-2.0), {"equal_ids": "ignore"}),
    "margin": (Margin(2.0), {}),
    "margin, ids ignored": (Margin(2.0), {"equal_ids": "ignore"}),
    "bilinear": (Bilinear(learnable=True), {"symmetric": True}),
    "bilinear, both ways": (Bilinear(both_directions=True, bounded=False), {"equal_ids": "ignore"}),
    "swav": (SwAV(7, frozen_steps=0), {"symmetric": True}),
    "swav, small views": (SwAV(7, frozen_steps=0), {"both": False}),
    "swav, queue": (SwAV(7, frozen_steps=0), {"more": "queue"}),
    "hard_negative": (HardNegative(0.5, learnable=True, beta=1.5), {"symmetric": True}),
    "hard_negative, two nodes": (HardNegative(0.5, learnable=True), {}),
    "decoupled": (Decoupled(0.3, learnable=True), {"symmetric": True}),
    "decoupled, two nodes": (Decoupled(0.3, learnable=True), {"equal_ids": "ignore"}),
    "hardest": (HardestNegatives(0.3, learnable=True, k=2), {"symmetric": True}),
    "hardest, two nodes": (HardestNegatives(0.3, learnable=True, k=3, similarity="dot"), {"equal_ids": "ignore"}),
    "hardest, one way": (HardestNegatives(0.3, k=3), {"both": False}),
    "hardest, queue and explicit negatives": (HardestNegatives(0.3, k=5), {"more": "all"}),
    "info_nce, queue and explicit negatives": (InfoNCE(0.2, learnable=True), {"more": "all"}),
    "nt_xent, queue and explicit negatives": (NTXent(0.5, learnable=True), {"symmetric": True, "more": "all"}),
    "sup_con, queue and explicit negatives": (SupCon(0.3, learnable=True), {"symmetric": True, "more": "all"}),
    "hard_negative, queue and explicit negatives": (HardNegative(0.5, learnable=True), {"more": "all"}),
    "co_sent": (CoSENT(5.0), {"more": "scores"}),
    "margin, scores": (Margin(2.0), {"more": "scores"}),
    "matryoshka, scores": (Matryoshka(CoSENT(5.0), dims=(2,)), {"more": "scores"}),
    "matryoshka": (Matryoshka(InfoNCE(0.2, learnable=True), dims=(2, 3)), {}),
    "matryoshka, queue and explicit negatives": (Matryoshka(InfoNCE(0.2), dims=(2,)), {"more": "all"}),
    "decoupled, queue and explicit negatives": (Decoupled(0.3, learnable=True), {"symmetric": True, "more": "all"}),
}
FUNCTIONS = (
    "nt_xent",
    "info_nce",
    "info_nce, ids",
    "info_nce, queue alone",
    "sup_con",
    "sup_con, memory",
    "sigmoid_loss",
    "margin_contrastive",
    "hard_negative",
    "decoupled",
    "co_sent",
)


class Model(nn.Module):
    """One linear encoder and an objective, as DDP sees them."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.encoder = nn.Linear(4, 5)
        torch.manual_seed(0)
        self.objective = objective.build((5, 5))
        with torch.no_grad():
            self.encoder.weight.copy_(torch.linspace(-1, 1, 20).sin().reshape(5, 4))
            self.encoder.bias.zero_()
        self.double()

    def forward(self, x: Tensor, y: Tensor, row: Tensor, ids: Tensor, context: Context, more: str) -> Tensor:
        a, b = (Embedded(self.encoder(v), row, ids) for v in (x, y))
        if more == "all":
            extras = (self.queue(), self.explicit(x - y, row, context.world))
            context = replace(context, extra_a=extras, extra_b=() if context.symmetric else extras[:1])
        if more == "queue":
            context = replace(context, extra_a=(self.queue(),), extra_b=(self.queue(),))
        if more == "scores":  # every fifth row has no known score
            score = torch.where(row % 5 == 4, torch.nan, (row % 2).float())
            a, b = (replace(v, score=score) for v in (a, b))
        return self.objective(a, b, context)["loss"]

    def queue(self) -> Extra:
        """Keys of earlier steps, the same on every rank; some are rows of the batch, too."""
        row = 3 * torch.arange(0, 12, 2)
        z = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        return Extra(z, row, row // 6)

    def explicit(self, x: Tensor, row: Tensor, world: World) -> Extra:
        """A negative that comes with each row, for the rows of all ranks; its gradient returns to its rank."""
        return Extra(world.gather(self.encoder(x)), world.gather(row), world.gather(1000 + row), "negative")


def data(rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, y [N, 4], rows and ids [N]; ids repeat."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 4, dtype=torch.float64, generator=g)
    y = x + torch.randn(rows, 4, dtype=torch.float64, generator=g)
    row = 3 * torch.arange(rows)
    return x, y, row, row // 6


def outcomes(counts_of: list[list[int]]) -> list[dict[str, list[Any]]]:
    """For each split of rows over ranks: objective -> loss, DDP gradients; function -> loss and shares of gradients."""
    return [{**_objectives(counts), **_functions(counts)} for counts in counts_of]


def _objectives(counts: list[int]) -> dict[str, list[Any]]:
    world = World.current()
    mine = slice(sum(counts[: world.rank]), sum(counts[: world.rank + 1]))
    part = [t[mine] for t in data(sum(counts))]
    found: dict[str, list[Any]] = {}
    for name, (objective, how) in OBJECTIVES.items():
        model = Model(objective)
        wrapped = nn.parallel.DistributedDataParallel(model) if world.size > 1 else model
        how = dict(how)
        more = how.pop("more", "")
        loss = wrapped(*part, Context(world, **how), more)
        loss.backward()
        found[name] = [loss.item(), *(p.grad.tolist() for p in model.parameters())]
    return found


def _functions(counts: list[int]) -> dict[str, list[Any]]:
    world = World.current()
    mine = slice(sum(counts[: world.rank]), sum(counts[: world.rank + 1]))
    x, y, row, ids = (t[mine] for t in data(sum(counts)))
    found: dict[str, list[Any]] = {}
    for name in FUNCTIONS:
        a, b = (v.clone().requires_grad_() for v in (x, y))
        number = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
        leaves = [a, b, number]
        if name == "sup_con":
            labels = torch.where(ids == 1, -1, ids)
            loss = functional.sup_con(torch.cat([a, b]), torch.cat([labels, labels]), number)
        elif name == "info_nce, ids":
            loss = functional.info_nce(a, b, number, ids=torch.where(ids == 1, -1, ids))
        elif name == "info_nce, queue alone":
            queue = Model(SupCon()).queue().z[:, :4]
            loss = functional.info_nce(a, b, number, False, queue, in_batch=False)
        elif name == "sup_con, memory":  # the same on every rank
            shift = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
            leaves = [a, number, shift]
            memory = Model(SupCon()).queue().z[:, :4] + shift
            loss = functional.sup_con(a, torch.where(ids == 1, -1, ids), number, memory, [0, 3, -1, 2, 500, 1])
        elif name == "sigmoid_loss":
            bias = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
            leaves.append(bias)
            loss = functional.sigmoid_loss(a, b, number, bias)
        elif name == "margin_contrastive":
            leaves.pop()
            loss = functional.margin_contrastive(a, b, row % 2 == 0, 2.0)
        elif name == "co_sent":
            leaves.pop()
            loss = functional.co_sent(a, b, (row % 7).float(), 5.0)
        else:
            loss = getattr(functional, name)(a, b, number)
        grads = torch.autograd.grad(loss, leaves)
        found[f"functional.{name}"] = [loss.item(), *((g / world.size).tolist() for g in grads)]
    return found
