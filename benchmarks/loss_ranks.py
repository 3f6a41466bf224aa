"""How much does a rank send for a step of the loss, how long does the step take, and is the gradient correct?

    python benchmarks/loss_ranks.py [--ranks 1 2 4] [--batch 8192] [--dim 512]

Processes on this machine's CPU communicate over gloo and share its cores; the batch is that of all ranks together.
multicl is compared with the best plain form: gather both sides with gradients (torch.distributed.nn.all_gather), and
contrast a rank's own rows with all, as open_clip does under --local-loss --gather-with-grad. Bytes are counted at every
collective (losses/traffic.py), in a step that is not timed. "gradient off" is the relative difference of the mean over
ranks, as DistributedDataParallel takes it, from the float64 gradients of one process; the worst rank counts.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from common import RESULTS, finish
from losses.inputs import TEMPERATURE, Inputs, make_inputs
from losses.reference import differences, reference
from losses.traffic import Traffic
from torch import Tensor
from torch.distributed.nn.functional import all_gather

import multicl.functional as ours


def gathered_nt_xent(a: Tensor, b: Tensor, temperature: Tensor) -> Tensor:
    """This rank's 2n rows against all 2N."""
    n, rank = len(a), dist.get_rank()
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    all_a, all_b = torch.cat(all_gather(a)), torch.cat(all_gather(b))
    logits = torch.cat([a, b]) @ torch.cat([all_a, all_b]).T / TEMPERATURE["nt_xent"]
    first = torch.arange(n) + rank * n
    itself = torch.cat([first, first + len(all_a)])
    logits[torch.arange(2 * n), itself] = -torch.inf
    return F.cross_entropy(logits, itself.roll(n))


def gathered_info_nce(a: Tensor, b: Tensor, temperature: Tensor) -> Tensor:
    """This rank's n rows against all N, in both directions."""
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    all_a, all_b = torch.cat(all_gather(a)), torch.cat(all_gather(b))
    target = torch.arange(len(a)) + dist.get_rank() * len(a)
    one = F.cross_entropy(a @ all_b.T / temperature, target)
    return (one + F.cross_entropy(b @ all_a.T / temperature, target)) / 2


FORMS: dict[str, dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    "nt_xent": {
        "multicl": lambda a, b, temperature: ours.nt_xent(a, b, TEMPERATURE["nt_xent"]),
        "gather both sides": gathered_nt_xent,
    },
    "info_nce": {"multicl": ours.info_nce, "gather both sides": gathered_info_nce},
}


def rank(rank: int, world: int, threads: int, options: argparse.Namespace, store: str, pipe: Any) -> None:
    """Measure every loss in both forms on one rank, and send the rows to the parent."""
    torch.set_num_threads(threads)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    pipe.send([row for loss in FORMS for row in _side_by_side(loss, options)])
    dist.destroy_process_group()


def _side_by_side(loss: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    n = options.batch // dist.get_world_size()
    mine = slice(dist.get_rank() * n, (dist.get_rank() + 1) * n)
    whole = make_inputs(loss, options.batch, options.dim)
    leaves = [x.detach()[mine].clone().requires_grad_() for x in (whole.a, whole.b)]
    steps = {name: _step(form, leaves, whole) for name, form in FORMS[loss].items()}
    found: dict[str, dict[str, Any]] = {}
    right = _right(loss, options, mine) if options.batch <= options.reference else None
    for name, step in steps.items():
        found[name] = {"loss": loss, "form": name}
        traffic = Traffic()
        with traffic:
            value, grads = step()
        found[name]["sent MB"] = traffic.sent / 2**20
        found[name]["calls"] = " ".join(f"{calls} {collective}" for collective, calls in traffic.calls.items())
        if right:
            _, found[name]["gradient off"] = differences(value.item(), _mean(grads), *right)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for r in range(options.rounds):
        for name, step in list(steps.items())[:: -1 if r % 2 else 1]:
            dist.barrier()
            start = time.perf_counter()
            step()
            dist.barrier()
            seconds[name].append(time.perf_counter() - start)
    for name, each in seconds.items():
        found[name]["seconds"] = median(each)
    return list(found.values())


def _step(form: Callable[..., Tensor], leaves: list[Tensor], whole: Inputs) -> Callable[[], Any]:
    learnt = [*leaves, *whole.learnt[2:]]

    def step() -> Any:
        value = form(*leaves, whole.temperature)
        return value.detach(), torch.autograd.grad(value, learnt)

    return step


def _mean(grads: Sequence[Tensor]) -> list[Tensor]:
    """Mean over ranks of the gradients of this rank's rows, which no other rank has, and of what all ranks share."""
    shared = [g.clone() for g in grads[2:]]
    for g in shared:
        dist.all_reduce(g)
    return [g / dist.get_world_size() for g in (*grads[:2], *shared)]


def _right(loss: str, options: argparse.Namespace, mine: slice) -> tuple[float, list[Tensor]]:
    value, grads = reference(loss, make_inputs(loss, options.batch, options.dim, torch.float64))
    return value, [*(g[mine] for g in grads[:2]), *grads[2:]]


def measure(world: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each loss and form, with the worst rank's figures."""
    threads = max(1, options.threads // world)
    context = torch.multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        pipes, processes = [], []
        for r in range(world):
            here, there = context.Pipe(duplex=False)
            args = (r, world, threads, options, str(Path(folder) / "store"), there)
            processes.append(context.Process(target=rank, args=args, daemon=True))
            processes[-1].start()
            there.close()
            pipes.append(here)
        ranks = [pipe.recv() for pipe in pipes]  # EOFError: that rank has failed and said why
        for process in processes:
            process.join()
    rows = []
    for each in zip(*ranks, strict=True):
        row = {"ranks": world, "threads": threads, **each[0]}
        for key in ("seconds", "sent MB", "gradient off"):
            if all(r.get(key) is not None for r in each):
                row[key] = max(r[key] for r in each)
        rows.append(row)
    for row in rows:
        mine = next(r for r in rows if r["loss"] == row["loss"] and r["form"] == "multicl")
        row["time / ours"] = row["seconds"] / mine["seconds"]
        row["sent / ours"] = row["sent MB"] / mine["sent MB"] if mine["sent MB"] else 1.0
    return rows


def main() -> None:
    """Measure the worlds asked for; print a table and the RESULT line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--ranks", nargs="+", type=int, default=[1, 2, 4])
    p.add_argument("--batch", type=int, default=8192, help="rows of all ranks; a multiple of every number of ranks")
    p.add_argument("--dim", type=int, default=512)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of all ranks together")
    p.add_argument("--reference", type=int, default=8192, help="largest batch that is compared with float64")
    p.add_argument("--results", type=Path, default=RESULTS, help="folder of loss_ranks.json")
    options = p.parse_args()
    if any(options.batch % world for world in options.ranks):
        p.error(f"--batch {options.batch} must be a multiple of each of --ranks {options.ranks}")
    rows = [row for world in options.ranks for row in measure(world, options)]
    finish("loss_ranks", rows, options.results, batch=options.batch, dim=options.dim)


if __name__ == "__main__":
    main()
