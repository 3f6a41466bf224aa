"""Row kernels, interpreted on a CPU and compared with torch's operations: for processes with TRITON_INTERPRET=1."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from interpreted import interpret

from multicl.distributed import World
from multicl.objectives import softmax
from multicl.ops import finish, launch, unit
from multicl.ops.relation import Sums
from multicl.ops.running import Running, Slopes


def statistics(kind: type[Running], tilts: tuple[float, ...], inside: bool, wide: bool, device: str) -> Running:
    """Statistics of 37 rows, the second without a key, the others with none, one or two positives."""
    draw = torch.Generator().manual_seed(len(tilts))
    running = kind(37, tilts, inside, wide, torch.zeros(1, device=device))
    values = torch.rand(running.sums.shape, generator=draw) + 0.1
    values[-2] -= 0.5
    values[-1] = torch.arange(37) % 3
    values[:-2, 1] = 0
    running.sums.copy_(values)
    if running.shift is not None:
        running.shift.copy_(50 * torch.randn(37, generator=draw))
    return running


def compare_statistics(device: str) -> None:
    """Compare log-sums and slopes, with the rows in one part and in two."""
    for tilts, inside, wide, first in product([(1.0,), (1.0, 2.5)], [True, False], [True, False], [37, 20]):
        plain, fast = (statistics(k, tilts, inside, wide, device) for k in (Running, finish.RunningOnGpu))
        torch.testing.assert_close(fast.lse(), plain.lse(), rtol=1e-6, atol=1e-6)
        draw = torch.Generator().manual_seed(first)
        lse = torch.randn(len(tilts), 37, generator=draw).to(device)
        positive = torch.randn(37, generator=draw).to(device)
        parts = [[z[..., :first], z[..., first:]][: 1 + (first < 37)] for z in (lse, positive)]
        found, wanted = fast.slopes(*parts), plain.slopes(*parts)
        assert found.tilts == wanted.tilts
        for name in ("sums", "lse", "positive", "only", "single"):
            one, other = getattr(found, name), getattr(wanted, name)
            assert (one is None) == (other is None), name
            if other is not None:
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6, msg=name)
        assert isinstance(found, Slopes)


def compare_means(device: str) -> None:
    """Compare InfoNCE's mean and its gradients, in one direction and in two of other lengths; rows lack positives."""
    draw = torch.Generator().manual_seed(0)
    for sizes, some in product([(37,), (37, 19), (3, 40)], [True, False]):
        sums = []
        for n in sizes:
            lse, positive = (torch.randn(*shape, generator=draw).to(device) for shape in ((1, n), (n,)))
            positives = torch.randint(0, 3 if some else 1, (n,), generator=draw).float().to(device)
            sums.append(Sums(lse.requires_grad_(), positive.requires_grad_(), positives))
            sums[-1].lse.data[0, 0] = torch.nan if sums[-1].positives[0] == 0 else 0.0  # must not count
        leaves = [z for one in sums for z in (one.lse, one.positive)]
        found = finish.mean_loss(*((one.first, one.positive, one.positives) for one in sums))
        each = [softmax._direction(one, World.current()) for one in sums]
        wanted = torch.stack(each).mean()
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
        found *= 3  # in place, as losses of several steps are often divided
        grads = (torch.autograd.grad(loss, leaves) for loss in (found, 3 * wanted))
        for one, other in zip(*grads, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def compare_units(device: str, monkeypatch: Any) -> None:
    """Compare unit rows and their gradients: extreme values, types, rows apart, widths that are no power of 2."""
    for kind, width, n in product([torch.float32, torch.bfloat16], [1, 5, 64, 130], [1, 70]):
        z = torch.randn(n, 2 * width, generator=torch.Generator().manual_seed(width)).to(device, kind)[:, :width]
        for at, row in enumerate((0.0, 1e-9, 1e18, torch.nan)):
            if n > 1:
                z[at] = row
        made = []
        for switch in ("1", "0"):
            monkeypatch(switch)
            leaf = z.detach().requires_grad_()
            u = unit.unit(leaf)
            weights = torch.linspace(-1, 1, u.numel(), device=device).view(u.shape)
            made.append((u.detach(), torch.autograd.grad((u * weights).sum(), leaf)[0]))
        for one, other in zip(*made, strict=True):
            assert one.dtype == other.dtype
            tolerance = 1e-2 if one.dtype == torch.bfloat16 else 1e-5
            torch.testing.assert_close(one, other, rtol=tolerance, atol=1e-6, equal_nan=True)


def all_here() -> bool:
    """Everything, interpreted."""
    interpret()
    finish.BLOCK, finish.AT_ONCE = 16, 8  # blocks of a few rows
    compare_statistics("cpu")
    compare_means("cpu")
    able = {"0": lambda device: False, "1": lambda device: True}
    compare_units("cpu", lambda switch: setattr(unit, "runs_on", able[switch]))
    return launch.runs_on(torch.device("cpu"))
