"""The Triton form against the plain one: interpreted on a CPU, compiled for GPUs that are away, run where one is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from contrasts import CASES, Case, compute, inputs, pairs_of_values
from kernels import Run, of_interpreter, single
from ranks import run_ranks
from torch import Tensor

from multicl.ops import fused, launch, plain, tiled
from multicl.ops.contrast import Relation, Side, contrast

triton = pytest.importorskip("triton")


def covering() -> list[int]:
    """A few cases, among which every two values of two settings meet."""

    left = pairs_of_values(CASES)
    chosen = []
    while left:
        chosen.append(max(range(len(CASES)), key=lambda number: len(pairs_of_values([CASES[number]]) & left)))
        left -= pairs_of_values([CASES[chosen[-1]]])
    return chosen


def same(found: dict[str, Tensor], wanted: dict[str, Tensor], case: Case, tolerance: float, what: object = "") -> None:
    """By norm; the scale's gradient is a sum of both signs, and is measured by its summands."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        size = value.norm()
        if name == "d_scale":
            size = sum(wanted[n].norm() * len(wanted[n]) ** 0.5 for n in ("d_a", "d_b")) / case.scale
        error = (found[name].double().cpu().reshape(value.shape) - value).norm()
        assert error <= tolerance * size + torch.finfo(torch.float32).tiny, f"{what} {case} {name}: {error} of {size}"


PAIRWISE = covering()
FLAT = [number for number in PAIRWISE if CASES[number].scale < 40]
"""At a scale of 100, what rounding does to logits is more than a hundredth."""


@pytest.mark.parametrize(
    "runs",
    [
        [
            Run(PAIRWISE, [18], [35], 19, 30, torch.float32, False),
            Run(FLAT[::2], [18], [35], 19, 30, torch.float16, True),  # the interpreter knows no products of bfloat16
            Run(PAIRWISE[::3], [41], [36], 19, 2000, torch.float32, False),  # few positives: most tiles are plain
        ],
        [Run(PAIRWISE[::3], [20, 6], [0, 17], 19, 30, torch.float32, False)],
    ],
    ids=["one process", "two ranks"],
)
def test_interpreted_kernels_give_what_the_plain_form_gives(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    ranks = run_ranks(of_interpreter, len(runs[0].counts_a), runs, start="spawn")
    for run, *of_ranks in zip(runs, *ranks, strict=True):
        for number, *parts_of in zip(run.numbers, *of_ranks, strict=True):
            case, rows = CASES[number], (sum(run.counts_a), sum(run.counts_b))
            wanted = compute(plain.contrast, case, inputs(case, *rows, run.width, run.ids, number))
            found = {}
            for name, value in wanted.items():
                parts = [torch.tensor(part[name], dtype=torch.float64) for part in parts_of]
                if name in ("d_scale", "d_x_a", "d_x_b"):  # each rank has its part of what all rows send there
                    found[name] = torch.stack(parts).sum(0)
                elif name[0] == "d":
                    found[name] = torch.cat([part.reshape(-1, value.shape[1]) for part in parts])
                else:
                    found[name] = torch.cat([part.reshape(*value.shape[:-1], -1) for part in parts], -1)
            same(found, wanted, case, 1e-5 if run.products == torch.float32 else 1e-2, number)


@pytest.mark.parametrize(
    ("products", "capability", "roomy"),
    [(torch.float32, 80, False), (torch.bfloat16, 80, False), (torch.bfloat16, 90, True)],
)
def test_kernels_compile(
    products: torch.dtype, capability: int, roomy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interpreter takes more than the compiler does; memory of a tile is that of the smaller GPUs."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from multicl.ops import kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    plan = fused.plan(products, roomy)
    whole = {
        "WIDTH": 512, "TILTS": 1, "WIDE": False, "ADD": True, "COLUMNS": True, "SELF": "left out", "INSIDE": True,
        "EQUAL": "positive", "OWN": "positive", "PRECISION": "tf32x3", "SPAN": 8 * plan.mark[1],
        "MM": plan.mark[0], "MN": plan.mark[1],
    }  # fmt: skip
    kinds = dict.fromkeys(["n", "k", "size", "span", "across", "stride", "row_at", "column_at"], "i32")
    kinds |= {"x": "*bf16", "y": "*bf16", "out": "*bf16"} if products == torch.bfloat16 else {}
    kinds |= {"tilt_0": "fp32", "tilt_1": "fp32", "single": "*i1", "marks": "*i8"}
    kinds |= dict.fromkeys([f"{side}_{what}" for side in "xy" for what in ("row", "id")], "*i64")
    for kernel, special, sizes in (
        (kernels.mark, None, plan.special), (kernels.sums, False, plan.sums), (kernels.sums, True, plan.special),
        (kernels.weights, False, plan.weights), (kernels.weights, True, plan.special),
    ):  # fmt: skip
        given = {**whole, **sizes._asdict(), "SPECIAL": special}
        settled = {name: value for name, value in given.items() if name in kernel.arg_names}
        types = kinds | dict.fromkeys(settled, "constexpr")
        source = ASTSource(kernel, {name: types.get(name, "*fp32") for name in kernel.arg_names}, settled)
        options = {"num_warps": sizes.num_warps, "num_stages": sizes.num_stages}
        made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        assert made.metadata.shared <= (227_000 if roomy else 100_000)


def test_it_is_taken_on_a_gpu_alone_and_not_when_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_is_able", lambda device: True)
    assert fused.form(torch.device("cpu"), torch.float32, (1.0,), True) is tiled
    assert fused.form(torch.device("cuda"), torch.float32, (1.0,), True) == fused.Fused(torch.bfloat16)
    monkeypatch.setenv(launch.SWITCH, "0")
    assert fused.form(torch.device("cuda"), torch.float32, (1.0,), True) is tiled


@pytest.mark.gpu
@pytest.mark.parametrize("number", PAIRWISE)
@pytest.mark.parametrize("shape", [(1, 1, 2, 30), (130, 257, 19, 30), (300, 200, 1024, 30), (900, 700, 96, 10**6)])
def test_kernels_give_what_the_plain_form_gives(number: int, shape: tuple[int, int, int, int]) -> None:
    case = CASES[number]
    given = inputs(case, *shape, number)
    same(compute(contrast, case, single(given, "cuda")), compute(plain.contrast, case, given), case, 2e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("number", PAIRWISE)
@pytest.mark.parametrize("shape", [(300, 200, 128, 30), (900, 700, 128, 10**6)])
def test_bfloat16_is_right_to_a_hundredth(number: int, shape: tuple[int, int, int, int]) -> None:
    case = replace(CASES[number], scale=3.0)
    given = inputs(case, *shape, number)
    wanted = compute(plain.contrast, case, given)
    with torch.autocast("cuda", torch.bfloat16):
        found = compute(contrast, case, single(given, "cuda"))
    same(found, wanted, case, 1e-2)


@pytest.mark.gpu
def test_sums_of_columns_are_the_same_without_atomics() -> None:
    z = torch.nn.functional.normalize(torch.randn(300, 64, device="cuda"), dim=1)
    side = Side(torch.arange(300, device="cuda"), torch.arange(300, device="cuda"))
    runs = []
    for exact in (False, True, True):
        torch.use_deterministic_algorithms(exact)
        stats = contrast(z, z.flip(0), torch.ones(1, device="cuda"), Relation(side, side))
        runs.append(stats.b.lse if stats.b else None)
    torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(runs[0], runs[1])
    assert torch.equal(runs[1], runs[2])  # type: ignore[arg-type]
