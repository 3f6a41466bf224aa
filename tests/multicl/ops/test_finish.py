"""Kernels of statistics and of unit rows: interpreted on a CPU, compiled for GPUs that are away, run where one is."""

from __future__ import annotations

from pathlib import Path

import pytest
import row_kernels as compared
import torch
from ranks import run_ranks

triton = pytest.importorskip("triton")


def test_interpreted_kernels_give_what_torch_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert run_ranks(compared.all_here, 1, start="spawn") == [False]  # a CPU takes them nowhere else


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile(capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from multicl.ops import row_kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    of_statistics = {"TILTS": 2, "WIDE": True, "INSIDE": True, "BLOCK": 512}
    of_units = {"WIDTH": 300, "ROOM": 512, "BLOCK": 8}
    of_means = {"BOTH": True, "BLOCK": 4096}
    kinds = dict.fromkeys(["size", "first", "size_a", "size_b", "n", "stride"], "i32")
    kinds |= {"tilt_0": "fp32", "tilt_1": "fp32", "shortest": "fp32", "single": "*i1", "z": "*bf16"}
    for kernel, settled in (
        (row_kernels.lse, of_statistics), (row_kernels.slopes, of_statistics), (row_kernels.mean, of_means),
        (row_kernels.mean_slopes, of_means), (row_kernels.unit, of_units), (row_kernels.unit_slopes, of_units),
    ):  # fmt: skip
        types = kinds | dict.fromkeys(settled, "constexpr")
        source = ASTSource(kernel, {name: types.get(name, "*fp32") for name in kernel.arg_names}, settled)
        made = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        assert "ptx" in made.asm


@pytest.mark.gpu
def test_kernels_give_what_torch_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    compared.compare_statistics("cuda")
    compared.compare_means("cuda")
    compared.compare_units("cuda", lambda switch: monkeypatch.setenv("MULTICL_TRITON", switch))


@pytest.mark.gpu
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_losses_are_those_of_float64(similarity: str, kind: torch.dtype) -> None:
    import multicl.functional as functional

    draw = torch.Generator().manual_seed(0)
    a, b = (torch.nn.functional.normalize(torch.randn(700, 96, generator=draw), dim=1).to(kind) for _ in range(2))
    for loss in (functional.info_nce, functional.nt_xent):
        found, wanted = [], []
        for device, number, made in (("cuda", kind, found), ("cpu", torch.float64, wanted)):
            leaves = [z.to(device, number).requires_grad_() for z in (a, b)]
            value = loss(*leaves, temperature=0.1, similarity=similarity)
            made += [value.detach(), *torch.autograd.grad(value, leaves)]
        for one, other in zip(found, wanted, strict=True):
            tolerance = 1e-5 if kind == torch.float32 else 1e-2
            assert (one.double().cpu() - other).norm() <= tolerance * other.norm()
