"""InfoNCE in one Function: interpreted on a CPU, compiled for GPUs that are away, run where one is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import directs
import pytest
import torch
from ranks import run_ranks

from multicl.distributed import World
from multicl.objectives import softmax
from multicl.ops import direct, fused
from multicl.ops.contrast import Extra, Relation, Side

triton = pytest.importorskip("triton")


@pytest.mark.parametrize(
    ("kind", "products", "tolerance"),
    [
        (torch.float32, torch.float32, 1e-5),
        (torch.float16, torch.float16, 1e-2),  # the interpreter knows no products of bfloat16
    ],
)
def test_interpreted_kernels_give_what_the_plain_form_gives(
    kind: torch.dtype, products: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    given = kind, products, tolerance
    assert run_ranks(directs.all_here, 1, *given, start="spawn") == [len(directs.CASES)]


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile(capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from multicl.ops import direct_kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    of_rows = {"COSINE": True, "WIDTH": 300, "ROOM": 512, "BLOCK": 8}
    of_sums = {"BOTH": True, "BLOCK": 512}
    kinds = dict.fromkeys(["n", "k", "stride_a", "stride_b", "first", "size"], "i32") | {"shortest": "fp32"}
    kinds |= dict.fromkeys(["a", "b", "x", "y", "out_a", "out_b"], "*bf16")
    for kernel, settled in (
        (direct_kernels.ready, of_rows), (direct_kernels.home, of_rows), (direct_kernels.mean, of_sums),
        (direct_kernels.slopes, of_sums),
    ):  # fmt: skip
        types = kinds | dict.fromkeys(settled, "constexpr")
        if kernel is direct_kernels.mean:
            types |= {"out": "*fp32"}
        source = ASTSource(kernel, {name: types.get(name, "*fp32") for name in kernel.arg_names}, settled)
        made = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        assert "ptx" in made.asm


def test_it_is_taken_on_one_gpu_for_narrow_logits_without_extra_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []

    def direct_loss(*given: object) -> tuple[torch.Tensor, torch.Tensor]:
        taken.append(given)
        return torch.zeros(()), torch.ones(())

    monkeypatch.setattr(softmax, "direct_loss", direct_loss)
    monkeypatch.setattr(softmax, "contrast", lambda *args, **kwargs: taken.append(None))
    monkeypatch.setattr(softmax, "info_nce_loss", lambda *args: torch.zeros(()))
    monkeypatch.setattr(softmax, "form_of", lambda *args, **kwargs: fused.Fused(torch.float32))
    z, side = torch.full((3, 4), 1.5), Side(torch.arange(3), torch.arange(3))

    def takes(
        scale: float, world: World = World(), known: bool = True, cosine: bool = True, rows: int = 3,  # noqa: B008
        keys: torch.Tensor | None = None, **more: Any,
    ) -> bool:  # fmt: skip
        given = z[:rows], keys, torch.tensor([scale]), Relation(side, side)
        softmax.mean_nce(*given, cosine=cosine, known_scale=scale if known else None, world=world, **more)
        return taken[-1] is not None

    assert takes(40.0)
    assert takes(40.0, known=False)
    assert not takes(40.1)
    assert not takes(40.1, known=False)
    assert not takes(float("nan"), known=False)
    assert not takes(-1.0, known=False)
    assert not takes(5.0, cosine=False)
    assert takes(4.0, cosine=False)
    assert not takes(1.0, World(0, 2))
    assert not takes(1.0, rows=0)
    queue = [Extra(z, side.row, side.id)]
    assert takes(1.0, keys=z, extra_a=queue)
    assert not takes(1.0, extra_a=queue)  # its scale's gradient would take the keys', too
    assert not takes(1.0, keys=z, extra_a=[Extra(z.clone().requires_grad_(), side.row, side.id)])
    assert not takes(1.0, keys=z, extra_b=queue)
    assert takes(1.0, keys=z, extra_b=queue, both=False)
    assert not takes(4.0, keys=z, extra_a=[Extra(2 * z, side.row, side.id)], cosine=False)
    assert not direct.is_direct(torch.zeros(1, 10**4), None, [])


@pytest.mark.parametrize(
    ("cosine", "low", "products"),
    [
        (True, None, torch.float32),  # unit vectors are float32
        (True, True, torch.bfloat16),
        (False, None, torch.bfloat16),
        (False, False, torch.float32),
    ],
)
def test_low_rows_have_the_products_that_contrast_gives_them(
    cosine: bool, low: bool | None, products: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    forms = []

    def direct_loss(*given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        forms.append(given[5])
        return torch.zeros(()), torch.ones(())

    monkeypatch.setattr(softmax, "direct_loss", direct_loss)
    monkeypatch.setattr(fused, "runs_on", lambda device: True)
    z, side = torch.ones(3, 4, dtype=torch.bfloat16), Side(torch.arange(3), torch.arange(3))
    softmax.mean_nce(z, None, torch.ones(1), Relation(side, side), cosine=cosine, low=low, world=World())
    assert forms == [fused.Fused(products)]


@pytest.mark.gpu
@pytest.mark.parametrize("times", [1, 30])
@pytest.mark.parametrize(
    ("kind", "products", "tolerance"),
    [
        (torch.float32, torch.float32, 2e-5), (torch.bfloat16, torch.bfloat16, 2e-2),
        (torch.float32, torch.bfloat16, 2e-2),
    ],
)  # fmt: skip
def test_kernels_give_what_the_plain_form_gives(
    kind: torch.dtype, products: torch.dtype, tolerance: float, times: int
) -> None:
    assert directs.compare("cuda", times, kind, products, tolerance) == len(directs.CASES)
    directs.alone("cuda")
