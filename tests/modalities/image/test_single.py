"""Large pictures one at a time: the same views as in slices."""

from __future__ import annotations

import pytest
import torch

from multicl.modalities.image import BYOL_SECOND, SIMCLR, Augment, views

ALL = Augment(
    crop=(0.3, 1.0), flip=0.5, rotate=0.5, jitter=0.8, gray=0.3, blur=0.5, solarize=0.4, posterize=0.2, noise=0.5,
    cutout=0.3,
)  # fmt: skip
SETTINGS = {
    "all": ALL, "simclr": SIMCLR, "byol": BYOL_SECOND, "no crop": Augment(flip=0.5, jitter=1.0),
    "no hue": Augment(crop=(0.3, 1.0), jitter=1.0, hue=0.0), "whole turns": Augment(jitter=1.0, hue=0.5),
    "strong": Augment(jitter=1.0, brightness=3.0, contrast=3.0, saturation=3.0), "nothing": Augment(),
}  # fmt: skip


def pictures(kind: torch.dtype) -> torch.Tensor:
    """Noise over slopes; among them white, black, grey and pure colours, where hues are any and sums just 1."""
    g = torch.Generator().manual_seed(0)
    x = torch.rand(24, 3, 52, 60, generator=g) * torch.linspace(0.2, 1, 60)
    x[1], x[2], x[3], x[4] = 1, 0, x[3, :1], (x[4] > 0.4).float()
    return x if kind == torch.float32 else (255 * x).to(kind)


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
@pytest.mark.parametrize("size", [None, (56, 50)])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_gives_the_views_of_slices(
    settings: Augment, size: tuple[int, int] | None, kind: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, seeds = pictures(kind), torch.arange(24)
    before = pixels.clone()
    wanted = views.random_view(pixels, seeds, settings, size)
    monkeypatch.setattr(views, "IN_CACHE", 1)
    found = views.random_view(pixels, seeds, settings, size)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert torch.equal(pixels, before)


def test_a_blend_that_is_not_cut_stays_within_bounds() -> None:
    white = torch.ones(200, 3, 52, 60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "IN_CACHE", 1)
        some = Augment(jitter=1.0, brightness=0.0, contrast=0.002, saturation=0.002, hue=0.0)
        view = views.random_view(white, torch.arange(200), some)
    assert 0.99 < float(view.min()) <= float(view.max()) <= 1
