"""How close does InfoNCE in bf16 come to the rate of a GPU's plain matrix products?

    pip install -e '.[bench]'; pip install inf-cl    # peers; one that is missing is named
    python benchmarks/loss_gpu.py [--batch 8192 32768 131072] [--dim 512]

Forward and backward in both directions, bf16 unit vectors, a learnt scale. The floor of a loss that saves no matrix is
four products, 8*B*B*D operations (losses/floor.py), at the rate that torch.mm reaches on bf16 in this run; "of floor"
is that time over the measured one. Memory is the allocator's peak above the inputs. "loss off" and "gradient off" are
relative differences from float64 on the same bf16 numbers. Without a CUDA device the script says so and ends;
`--device cpu` tries the script, not the speed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import RESULTS, finish, seconds
from losses.reference import differences
from torch import Tensor

SCALE = 1 / 0.07
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def ours() -> Loss:
    """multicl, on vectors that are already of unit length."""
    import multicl.functional as functional

    return lambda a, b, scale: functional.info_nce(a, b, 1 / scale, similarity="dot")


def plain() -> Loss:
    """The B x B textbook form."""
    return _plain


def _plain(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    logits = (a @ b.T).float() * scale
    target = torch.arange(len(a), device=a.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def open_clip() -> Loss:
    """ClipLoss; its logits are bf16, as in open_clip's own training."""
    from open_clip.loss import ClipLoss

    loss = ClipLoss()
    return lambda a, b, scale: loss(a, b, scale.to(a.dtype))


def open_clip_compiled() -> Loss:
    """ClipLoss under torch.compile."""
    compiled: Loss = torch.compile(open_clip())
    return compiled


def inf_cl() -> Loss:
    """Inf-CL's tiled kernel on one GPU (arXiv:2410.17243), one direction at a time."""
    from inf_cl import cal_flash_loss

    def loss(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
        head = min(256, a.shape[1])
        one, other = (cal_flash_loss(*way, scale=scale, head_dim=head) for way in ((a, b), (b, a)))
        value: Tensor = (one.mean() + other.mean()) / 2
        return value

    return loss


IMPLEMENTATIONS: dict[str, tuple[Callable[[], Loss], float]] = {  # with bytes per element of B x B at the peak
    "multicl": (ours, 0),
    "plain": (plain, 26),
    "open_clip": (open_clip, 20),
    "open_clip, compiled": (open_clip_compiled, 8),
    "Inf-CL": (inf_cl, 0),
}


def rate(device: torch.device, size: int) -> float:
    """Operations per second of torch.mm on square bf16 matrices."""
    x, y = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(x)
    return 2 * size**3 / seconds(lambda: torch.mm(x, y, out=out), device, 20)


def measure(
    batch: int, dim: int, device: torch.device, operations: float, slow: dict[str, float], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row for each implementation; `slow`: its seconds per element of the matrix, at the last size."""
    draw = torch.Generator().manual_seed(batch + dim)
    a = torch.randn(batch, dim, generator=draw)
    b = a + 2 * torch.randn(batch, dim, generator=draw)
    x = [F.normalize(z, dim=1).to(device, torch.bfloat16).requires_grad_() for z in (a, b)]
    scale = torch.tensor(SCALE, device=device, requires_grad=True)
    right = _reference(x[0], x[1], scale) if batch <= options.reference else None
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 2**33
    rows = []
    for name in options.implementations:
        make, matrix = IMPLEMENTATIONS[name]
        row: dict[str, Any] = {"B": batch, "D": dim, "implementation": name}
        rows.append(row)
        if slow.get(name, 0) * batch**2 > options.patience:
            row["note"] = f"left out: a call would take {slow[name] * batch**2:.2g} s"
            continue
        if matrix * batch**2 > free:
            row["note"] = f"not run: needs about {matrix * batch**2 / 2**30:.0f} GB"
            continue
        try:
            row |= _one(make(), [*x, scale], device, right, options.calls)
            slow[name] = row["ms"] / 1000 / batch**2
            row["of floor"] = 8 * batch**2 * dim / operations / (row["ms"] / 1000)
        except ImportError as error:
            row["note"] = f"missing: {error}"
        except Exception as error:
            row["note"] = f"failed: {type(error).__name__}: {str(error)[:200]}"
        if device.type == "cuda":
            torch.cuda.empty_cache()
        print(row, file=sys.stderr, flush=True)
    mine = next((row.get("ms") for row in rows if row["implementation"] == "multicl"), None)
    for row in rows:
        if mine and "ms" in row:
            row["time / ours"] = row["ms"] / mine
    return rows


def _one(loss: Loss, leaves: list[Tensor], device: torch.device, right: Any, calls: int) -> dict[str, Any]:
    def step() -> tuple[Tensor, tuple[Tensor, ...]]:
        value = loss(*leaves)
        return value.detach(), torch.autograd.grad(value, leaves)

    value, grads = step()  # compiles and tunes
    found: dict[str, Any] = {}
    if right:
        found["loss off"], found["gradient off"] = differences(value.item(), grads, *right)
    del value, grads
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    spent = seconds(step, device, calls)
    if device.type == "cuda":
        found["extra MB"] = (torch.cuda.max_memory_allocated(device) - before) / 2**20
    return found | {"ms": 1000 * spent}


def _reference(a: Tensor, b: Tensor, scale: Tensor, block: int = 512) -> tuple[float, list[Tensor]]:
    """Loss and gradients in float64, a block of rows at a time."""
    leaves = [x.detach().double().requires_grad_() for x in (a, b, scale)]
    value, grads = 0.0, [torch.zeros_like(x) for x in leaves]
    for queries, keys in ((leaves[0], leaves[1]), (leaves[1], leaves[0])):
        for rows in torch.arange(len(a), device=a.device).split(block):
            logits = leaves[2] * queries[rows] @ keys.T
            term = F.cross_entropy(logits, rows, reduction="sum") / (2 * len(a))
            value += term.item()
            for total, grad in zip(grads, torch.autograd.grad(term, leaves), strict=True):
                total += grad
    return value, grads


def main() -> None:
    """Measure the sizes asked for; print a table and the RESULT line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--batch", nargs="+", type=int, default=[8192, 32768, 131072])
    p.add_argument("--dim", nargs="+", type=int, default=[512])
    p.add_argument("--implementations", nargs="+", choices=list(IMPLEMENTATIONS), default=list(IMPLEMENTATIONS))
    p.add_argument("--device", default="cuda")
    p.add_argument("--calls", type=int, default=10, help="timed calls, of which the median counts")
    p.add_argument("--patience", type=float, default=1.0, help="seconds of a call, beyond which it is left out")
    p.add_argument("--square", type=int, default=8192, help="side of the matrices that tell the rate")
    p.add_argument("--reference", type=int, default=131072, help="largest B that is compared with float64")
    p.add_argument("--results", type=Path, default=RESULTS, help="folder of loss_gpu.json")
    options = p.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("loss_gpu: no CUDA machine here, nothing is measured")
        return
    operations = rate(device, options.square)
    print(f"torch.mm, bf16, {options.square} square: {operations / 1e12:.3g} TFLOP/s")
    rows = []
    for d in options.dim:
        slow: dict[str, float] = {}
        for b in options.batch:
            rows += measure(b, d, device, operations, slow, options)
    finish("loss_gpu", rows, options.results, operations_per_second=operations)


if __name__ == "__main__":
    main()
