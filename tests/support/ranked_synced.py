"""What the tests of synchronised batch norm run on each rank."""

from __future__ import annotations

from typing import Any

import torch
from steps import Built
from torch import nn
from toys import Vectors

from multicl import Head, InfoNCE, InputError, Momentum, Optim, Pair, Predicted, Train, Trainer
from multicl.distributed import World
from multicl.training.synced import synchronise
from multicl.types import Context, Embedded, Extra

NORMS: dict[str, Any] = {
    "rows": lambda: nn.BatchNorm1d(3),
    "pictures": lambda: nn.BatchNorm2d(3, momentum=None, eps=1e-3),
    "plain": lambda: nn.BatchNorm1d(3, affine=False, track_running_stats=False),
}


def inputs(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows far from zero, and gradients of the output."""
    dice = torch.Generator().manual_seed(1)
    shape = (7, 3, 4, 2) if name == "pictures" else (7, 3)
    x = 50 + torch.randn(*shape, generator=dice, dtype=torch.float64)
    return x, torch.randn(*shape, generator=dice, dtype=torch.float64)


def layers(counts: list[int]) -> dict[str, Any]:
    """Output, gradients and statistics of each norm after two batches, for this rank's share of the rows."""
    world = World.current()
    found: dict[str, Any] = {}
    for name, make in NORMS.items():
        torch.manual_seed(0)
        net = nn.Sequential(make()).double()
        for p in net.parameters():
            nn.init.normal_(p)
        synchronise(net)
        x, sent = (t.split(counts)[world.rank] for t in inputs(name))
        net(2 * x + 1)
        x.requires_grad_()
        out = net(x)
        out.backward(sent)
        assert x.grad is not None
        found[name] = {
            "out": out.tolist(), "x": x.grad.tolist(),
            "parameters": [world.sum(p.grad).tolist() for p in net.parameters() if p.grad is not None],
            "statistics": [b.tolist() for b in net.buffers()],
            "evaluated": (net.eval()(x) if list(net.buffers()) else out).tolist(), "names": list(net.state_dict()),
        }  # fmt: skip
    return found


def trainer(sync: bool, data: list[dict[str, Any]], batch_size: int = 9, **nodes: Any) -> Trainer:
    """A trainer with batch norms in an encoder and in heads, and with momentum keys."""
    nodes = nodes or {"a": Built(net=lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5)), width=5)}
    terms = [Pair("a", "a", InfoNCE(0.3), keys="momentum", queue=18), Pair("a", "a", InfoNCE(0.5), name="more")]
    train = Train(batch_size=batch_size, steps=4, lr=0.1, sync_batch_norm=sync)
    head = Head(dim=4, norm="batch", centred=True)
    return Trainer(
        nodes, terms, data, train=train, optim=Optim(name="sgd", warmup=0), head=head, momentum=Momentum(rate=0.9)
    )


def trained(sync: bool, data: list[dict[str, Any]]) -> dict[str, Any]:
    """Weights and statistics after a few steps."""
    made = trainer(sync, data)
    made.fit()
    return {name: x.tolist() for name, x in made.towers.state_dict().items()}


def predicted(data: list[dict[str, Any]]) -> dict[str, Any]:
    """The same with a batch norm in a predictor; also the smallest number of this rank's rows that a step compared."""
    pair = Pair("a", "b", Predicted(InfoNCE(0.3), hidden=5), keys="momentum")
    nodes = {node: Vectors() for node in "ab"}
    made = Trainer(
        nodes, [pair, Pair("a", "a", name="more")], data, head=Head(dim=4), optim=Optim(name="sgd", warmup=0),
        train=Train(batch_size=12, steps=4, lr=0.1, sync_batch_norm=True),
    )  # fmt: skip
    compared: list[int] = []
    objective = made.towers.objectives["a-b"]
    objective.register_forward_hook(lambda module, args, told: compared.append(len(args[0])))
    made.fit()
    return {"least": min(compared), **{name: x.tolist() for name, x in made.towers.state_dict().items()}}


def lonely() -> list[list[float]]:
    """Loss, gradients and statistics of a predictor whose norm has statistics, for one row over all ranks."""
    world = World.current()
    torch.manual_seed(0)
    module = Predicted(InfoNCE(0.3), hidden=5).build((4, 4))
    norm = module.predictor[1]
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    nn.init.normal_(norm.bias)
    if world.size > 1:
        synchronise(module)
    z, row = torch.randn(3, 4), torch.arange(3)
    last = slice(0, world.rank == world.size - 1)
    keys = Extra(z[1:], row[1:], row[1:])
    a, b = (Embedded(x[last], row[:1][last], row[:1][last]) for x in (z[:1], z[1:2]))
    loss = module(a, b, Context(world, both=False, extra_a=(keys,)))["loss"]
    loss.backward()
    grads = [world.sum(p.grad) / world.size for p in module.parameters() if p.grad is not None]
    return [x.flatten().tolist() for x in (loss.detach(), *grads, *module.buffers())]


def both(sync: bool, data: list[dict[str, Any]], lacking: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """`trained` and `predicted` in one start of the processes."""
    return trained(sync, data), predicted(lacking)


def lacking(data: list[dict[str, Any]]) -> str:
    """What each rank reports if one of them has no rows."""
    try:
        trainer(True, data, batch_size=1).fit()
    except InputError as error:
        return str(error)
    return "trained"
