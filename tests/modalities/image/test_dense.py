"""The form of views for a GPU: the same pictures as the form for a CPU, and nothing in it that cannot be recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from jitter import jittered
from ranks import run_ranks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from multicl.modalities.image import BYOL_SECOND, MOCO, SIMCLR, SMALL_PICTURES, Augment, augment, recorded
from multicl.modalities.image.dense import dense_view
from multicl.modalities.image.recorded import replayed
from multicl.modalities.image.views import random_view

ALL = Augment(
    crop=(0.3, 1.0), flip=0.5, rotate=0.5, rotate_degrees=20, jitter=0.7, gray=0.3, blur=0.5, solarize=0.4,
    posterize=0.4, noise=0.5, cutout=0.5,
)  # fmt: skip
SETTINGS = {
    "all": ALL, "simclr": SIMCLR, "moco": MOCO, "byol": BYOL_SECOND, "small": SMALL_PICTURES,
    "no crop": Augment(crop=(1.0, 1.0), flip=0.5), "no hue": Augment(crop=(0.3, 1.0), hue=0.0),
    "hue alone": Augment(brightness=0.0, contrast=0.0, saturation=0.0), "no colour": Augment(jitter=0.0, gray=0.0),
}  # fmt: skip


def pictures(device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (40, 3, 24, 32), dtype=torch.uint8, generator=g)
    return pixels.to(device), torch.randint(2**40, (40,), generator=g).to(device)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("size", [None, (12, 20)])
def test_gives_the_views_of_the_form_for_a_cpu(settings: Augment, size: tuple[int, int] | None) -> None:
    pixels, seeds = pictures()
    wanted = random_view(pixels, seeds, settings, size)
    torch.testing.assert_close(dense_view(pixels, seeds, None, settings, size or (24, 32)), wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("turns", [1, 4])
def test_the_interpreted_kernel_does_what_the_form_for_a_cpu_does(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    g = torch.Generator().manual_seed(turns)
    x = torch.rand(24, 3, 5, 7, generator=g)
    x[::5] = x[::5].mean(1, keepdim=True)  # grey
    x[1::5] = 0.25
    factors = torch.rand(24, 4, generator=g) * torch.tensor([2, 2, 2, 1]) - torch.tensor([0, 0, 0, 0.5])
    order = torch.rand(24, 4, generator=g).argsort(1)[:, :turns]
    (found,) = run_ranks(jittered, 1, x.tolist(), factors.tolist(), order.tolist(), start="spawn")
    wanted = torch.cat([
        augment.color_jitter(one[None].clone(), own[None], turn[None])
        for one, own, turn in zip(x, factors, order, strict=True)
    ])  # fmt: skip
    torch.testing.assert_close(torch.tensor(found), wanted, atol=2e-6, rtol=0)


def test_the_kernel_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter takes more than the compiler does."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from multicl.modalities.image.jitter_kernel import jitter

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    types = {
        "x": "*fp32",
        "factors": "*fp32",
        "order": "*i64",
        "size": "i32",
        "TURNS": "constexpr",
        "ROOM": "constexpr",
    }
    source = ASTSource(jitter, types, {"TURNS": 4, "ROOM": 4096})
    made = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"num_warps": 8})
    assert made.metadata.shared <= 1000


class _OneDevice(TorchDispatchMode):
    """Refuses operations between devices: on a GPU they wait, and cannot be recorded."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for x in tree_leaves((args, kwargs or {})):
            assert not isinstance(x, torch.Tensor) or x.device.type == "meta" or x.ndim == 0, func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_nothing_goes_from_device_to_device(settings: Augment) -> None:
    pixels, seeds = pictures("meta")
    extent = torch.ones(40, 3, dtype=torch.float64, device="meta")
    with _OneDevice():
        for known in (None, extent):
            assert dense_view(pixels, seeds, known, settings, (24, 32)).shape == (40, 3, 24, 32)


@pytest.mark.gpu
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_gpu_gives_the_views_of_a_cpu(settings: Augment) -> None:
    pixels, seeds = pictures()
    wanted = random_view(pixels, seeds, settings)
    found = [random_view(pixels.cuda(), seeds, settings).cpu() for _ in range(5)]  # the later ones are replayed
    for one in found:
        close = (one - wanted).abs() < 1e-4
        assert close.float().mean() > 0.999  # a level of posterize, a threshold of solarize can be just missed


@pytest.mark.gpu
def test_a_gpu_cuts_pictures_of_several_sizes_as_a_cpu_does() -> None:
    pixels, seeds = pictures()
    extent = torch.tensor([[24.0, 32.0, 1.5], [10.0, 32.0, 4.0]] * 20, dtype=torch.float64)
    for settings in (SIMCLR, Augment()):
        wanted = random_view(pixels, seeds, settings, (16, 16), extent)
        for _ in range(5):
            found = random_view(pixels.cuda(), seeds, settings, (16, 16), extent.cuda()).cpu()
            assert ((found - wanted).abs() < 1e-4).float().mean() > 0.999


@pytest.mark.gpu
def test_the_third_call_is_recorded_and_each_answer_is_its_own() -> None:
    recorded._calls.clear()
    pixels, seeds = pictures("cuda")
    found = [replayed(dense_view, (pixels, seeds + i, None), ALL, (24, 32)) for i in range(6)]
    assert [type(value).__name__ for value in recorded._calls.values()] == ["_Recording"]
    for i, one in enumerate(found):
        torch.testing.assert_close(one, dense_view(pixels, seeds + i, None, ALL, (24, 32)))
    with torch.inference_mode():
        replayed(dense_view, (pixels, seeds, None), ALL, (24, 32))
    replayed(dense_view, (pixels, seeds, None), ALL, (24, 32))


@pytest.mark.gpu
def test_few_recordings_are_kept() -> None:
    pixels, seeds = pictures("cuda")
    for rows in range(1, 2 * recorded.KEPT):
        for _ in range(recorded.SEEN):
            replayed(dense_view, (pixels[:rows], seeds[:rows], None), SIMCLR, (24, 32))
    assert len(recorded._calls) == recorded.KEPT
