"""What the tests run on each rank."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from toys import Vectors

from multicl import InfoNCE, Optim, Pair, Train, Trainer, functional
from multicl.distributed import World, _between_processors


def collectives(counts: list[int]) -> dict[str, Any]:
    """Gather and mean with unequal rows; values and gradients."""
    world = World.current()
    n = counts[world.rank]
    g = torch.Generator().manual_seed(0)
    every = torch.randn(sum(counts), 3, dtype=torch.float64, generator=g)
    start = sum(counts[: world.rank])
    mine = every[start : start + n].clone().requires_grad_()
    gathered = world.gather(mine)
    weight = torch.arange(gathered.numel(), dtype=torch.float64).reshape(gathered.shape) * (world.rank + 1)
    (home,) = torch.autograd.grad((gathered * weight).sum(), mine)
    valid = torch.arange(start, start + n) % 3 != 0
    values = mine.sum(1)
    mean = world.mean(values, valid)
    (slope,) = torch.autograd.grad(mean, mine, materialize_grads=True)
    return {
        "gathered_right": torch.equal(gathered, every),
        "home": home.tolist(),
        "mean": mean.item(),
        "slope": slope.tolist(),
        "any": [world.any(world.rank == 1), world.any(False)],
        "counts": world.counts(n, mine.device),
    }


def collectives_beside_nccl(counts: list[int], folder: str) -> dict[str, Any]:
    """The same with CPU tensors if the process group takes only a GPU's, as over NCCL."""
    dist.destroy_process_group()
    dist.init_process_group(
        "cuda:gloo", init_method=f"file://{folder}/meet", rank=int(os.environ["RANK"]), world_size=len(counts)
    )
    _between_processors.cache_clear()
    try:
        dist.all_reduce(torch.zeros(1))
    except RuntimeError as error:
        return {"refused": str(error), **collectives(counts)}
    raise AssertionError("the group takes tensors of the processor after all")


def apart(rows: int) -> list[list[float]] | None:
    """Losses of the first rank alone, which the other neither hears of nor waits for, with their gradients."""
    if World.current().rank:
        return None
    found = []
    with functional.alone():
        assert World.current() == World()
        for loss in (functional.nt_xent, functional.info_nce, functional.hard_negative):
            a, b, _ = loss_inputs(rows)
            value = loss(a.requires_grad_(), b, 0.3)
            found.append([value.item(), *torch.autograd.grad(value, a)[0].flatten().tolist()])
    assert World.current().size == 2
    return found


def losses(counts: list[int]) -> dict[str, Any]:
    """NT-Xent and InfoNCE over ranks; each rank's gradient / W must be its share of the one-process gradient."""
    world = World.current()
    a, b, scale = loss_inputs(sum(counts))
    start, n = sum(counts[: world.rank]), counts[world.rank]
    mine_a, mine_b = (x[start : start + n].clone().requires_grad_() for x in (a, b))
    out: dict[str, Any] = {}
    for name in ("nt_xent", "info_nce"):
        temperature = scale.clone().requires_grad_()
        loss = getattr(functional, name)(mine_a, mine_b, temperature)
        grads = torch.autograd.grad(loss, [mine_a, mine_b, temperature], materialize_grads=True)
        out[name] = [loss.item(), *(g.div(world.size).tolist() for g in grads)]
    return out


def loss_inputs(rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    a, b = (torch.randn(rows, 5, dtype=torch.float64, generator=g) for _ in range(2))
    return a, b, torch.tensor(0.3, dtype=torch.float64)


def trained(data: list[dict[str, Any]], batch_size: int, steps: int, run: str | None = None) -> dict[str, Any]:
    """Weights and the last loss of a short run of three pairs with a learnable temperature."""
    modalities = {"a": Vectors(), "b": Vectors(width=6)}
    terms = [Pair("a", "b", InfoNCE(0.2, learnable=True)), Pair("a", "a", weight=0.5), Pair("b", "b", ids="label")]
    trainer = Trainer(
        modalities,
        terms,
        data=data,
        train=Train(batch_size=batch_size, steps=steps, lr=0.1, checkpoint_every=2, log_every=1),
        optim=Optim(name="sgd", clip=0.5, warmup=0),
        run=run,
    )
    trainer.fit()
    return {name: p.detach().double().tolist() for name, p in trainer.towers.named_parameters()}
