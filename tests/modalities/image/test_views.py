"""Random views: reproducible by seed, alike in any grouping, distributed as the settings say."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multicl.modalities import seeded
from multicl.modalities.image import Augment, Image, draws, views
from multicl.types import Batch

EVERYTHING = Augment(
    crop=(0.3, 1.0), flip=0.5, rotate=0.5, jitter=0.8, gray=0.3, blur=0.5, solarize=0.4, posterize=0.2, noise=0.5,
    cutout=0.3,
)  # fmt: skip


def uint8(n=12, height=16, width=24, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, height, width), generator=g, dtype=torch.uint8)


@pytest.mark.parametrize("shape", [(16, 24), (52, 60)], ids=["small", "large"])
@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=12, max_size=12), st.integers(1, 11))
def test_a_view_depends_on_its_own_seed_and_row_alone(shape, seeds, cut):
    pixels, own = uint8(12, *shape), torch.tensor(seeds)
    whole = views.random_view(pixels, own, EVERYTHING)
    parts = [views.random_view(pixels[s], own[s], EVERYTHING) for s in (slice(0, cut), slice(cut, None))]
    torch.testing.assert_close(whole, torch.cat(parts), atol=1e-5, rtol=0)
    assert float(whole.min()) >= 0
    assert float(whole.max()) <= 1
    assert whole.dtype == torch.float32


@pytest.mark.parametrize("shape", [(16, 24), (52, 60)], ids=["small", "large"])
@pytest.mark.parametrize("change", ["rotate", "gray", "blur"])
def test_white_stays_white_and_its_negative_black(change, shape):
    white = torch.ones(64, 3, *shape)
    for solarize in (0.0, 1.0):
        view = views.random_view(white, torch.arange(64), Augment(**{change: 1.0}, solarize=solarize))
        assert float(view.min()) >= 0
        assert float(view.max()) <= 1
        torch.testing.assert_close(
            view, torch.full_like(view, 1 - solarize), atol=2e-4, rtol=0
        )  # luma's weights: 0.9999


@pytest.mark.parametrize("floats", [1, 3 * 16 * 24 * 5])
def test_slices_in_cache_change_nothing(monkeypatch, floats):
    pixels, seeds = uint8(), torch.arange(12)
    whole = views.random_view(pixels, seeds, EVERYTHING)
    monkeypatch.setattr(views, "IN_CACHE", floats)
    torch.testing.assert_close(views.random_view(pixels, seeds, EVERYTHING), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "change", ["flip", "rotate", "jitter", "gray", "blur", "solarize", "posterize", "noise", "cutout"]
)
def test_each_change_takes_its_share_of_rows_and_leaves_the_others(change):
    pixels = uint8(1).expand(400, -1, -1, -1)
    settings = dataclasses.replace(Augment(), **{change: 0.3})
    changed = (views.random_view(pixels, torch.arange(400), settings) != pixels / 255).flatten(1).any(1)
    assert 0.2 < float(changed.float().mean()) < 0.4


def test_nothing_on_changes_nothing_and_the_input_is_never_written_to():
    pixels, seeds = uint8(), torch.arange(12)
    as_float = pixels / 255
    kept = as_float.clone()
    assert torch.equal(views.random_view(pixels, seeds, Augment()), as_float)
    views.random_view(as_float, seeds, EVERYTHING)
    assert torch.equal(as_float, kept)


def test_turning_one_change_off_leaves_the_draws_of_the_others():
    pixels, seeds = uint8(), torch.arange(12)
    both = views.random_view(pixels, seeds, Augment(flip=0.5, solarize=0.5))
    flipped = views.random_view(pixels, seeds, Augment(flip=0.5))
    solarized = views.random_view(flipped, seeds, Augment(solarize=0.5))
    assert torch.equal(both, solarized)


def boxes(n, height, width, scale):
    """Boxes of n seeds."""
    return draws.random_boxes(
        seeded.uniform(torch.arange(n), 2 * draws.TRIES + 2),
        draws.filled(torch.arange(n), height, width),
        scale,
        (3 / 4, 4 / 3),
    )


def test_boxes_lie_within_and_cover_the_range_of_areas():
    box = boxes(4000, 32, 32, (0.2, 1.0))
    top, left, height, width = box.unbind(1)
    assert torch.equal(box, box.round())
    assert bool(((top >= 0) & (left >= 0) & (top + height <= 32) & (left + width <= 32)).all())
    area = height * width / 32**2
    assert 0.17 < float(area.min()) < 0.22
    assert float(area.max()) == 1
    assert 0.5 < float(area.mean()) < 0.6  # RandomResizedCrop's: large crops of a long side are drawn again
    shape = (width / height).log()
    assert abs(float(shape.mean())) < 0.02
    assert float(shape.abs().max()) < 0.4


def test_boxes_of_a_wide_picture_are_wide():
    box = boxes(500, 16, 48, (0.5, 1.0))
    assert 2 < float((box[:, 3] / box[:, 2]).mean()) < 4


def test_the_crop_matches_torchvision_on_average():
    from torchvision.transforms import v2

    torch.manual_seed(0)
    crop, picture = v2.RandomResizedCrop(32, (0.2, 1.0)), [torch.zeros(3, 32, 32)]
    drawn = [crop.make_params(picture) for _ in range(3000)]
    theirs = torch.tensor([[float(d[k]) for k in ("top", "left", "height", "width")] for d in drawn])
    ours = boxes(3000, 32, 32, (0.2, 1.0))
    torch.testing.assert_close(ours.mean(0), theirs.mean(0), atol=0.4, rtol=0)
    torch.testing.assert_close(ours.std(0), theirs.std(0), atol=0.4, rtol=0)


def test_the_adapter_chooses_by_kind_and_keeps_rows():
    image = Image(size=(16, 24), weak=Augment())
    batch = Batch({"pixels": uint8()}, row=torch.arange(12) + 100)
    plain = image.view(batch, None)
    assert torch.equal(plain.get("pixels"), uint8() / 255)
    assert torch.equal(image.view(batch, torch.arange(12), "weak").get("pixels"), plain.get("pixels"))
    strong = image.view(batch, torch.arange(12), "strong")
    assert not torch.equal(strong.get("pixels"), plain.get("pixels"))
    assert torch.equal(strong.row, batch.row)


def test_global_random_state_is_neither_used_nor_moved():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = views.random_view(uint8(), torch.arange(12), EVERYTHING)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(views.random_view(uint8(), torch.arange(12), EVERYTHING), first)


def test_a_local_view_is_a_small_part_at_a_size_of_its_own():
    pixels = uint8(200, 32, 48)
    for image, size in ((Image(size=(32, 48)), (16, 24)), (Image(size=(32, 48), local_size=(12, 10)), (12, 10))):
        view = image.view(Batch({"pixels": pixels}), torch.arange(200), "local").get("pixels")
        assert view.shape == (200, 3, *size)
        assert 0 <= float(view.min()) <= float(view.max()) <= 1
    ramp = torch.arange(48).float().div(47).expand(1, 3, 32, 48)  # brightness tells the place
    plain = Image(size=(32, 48), local=Augment(crop=(0.05, 0.25)))
    parts = plain.view(Batch({"pixels": ramp.expand(200, -1, -1, -1)}), torch.arange(200), "local").get("pixels")
    share = (parts[..., -1] - parts[..., 0]).mean((1, 2))  # of the width, about
    assert 0.1 < float(share.min()) < 0.25 < float(share.max()) < 0.6
    assert float(parts.mean((1, 2, 3)).std()) > 0.1


def test_a_local_view_without_a_crop_is_the_whole_picture_made_small():
    pixels = uint8(3, 32, 32)
    view = Image(local=Augment()).view(Batch({"pixels": pixels}), torch.arange(3), "local").get("pixels")
    wanted = torch.nn.functional.interpolate(
        pixels / 255, size=(16, 16), mode="bilinear", antialias=True, align_corners=False
    )
    torch.testing.assert_close(view, wanted, atol=1e-5, rtol=0)


def test_no_rows_and_no_change_of_colour():
    nothing = views.random_view(uint8(0), torch.zeros(0, dtype=torch.int64), EVERYTHING)
    assert nothing.shape == (0, 3, 16, 24)
    still = Augment(jitter=1.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
    assert torch.equal(views.random_view(uint8(), torch.arange(12), still), uint8() / 255)


@pytest.mark.parametrize("only", [{"brightness": 0.4}, {"hue": 0.2}, {"contrast": 0.4, "saturation": 0.4}], ids=str)
def test_adjustments_can_be_left_out(only):
    off = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    view = views.random_view(uint8(), torch.arange(12), Augment(jitter=1.0, **(off | only)))
    assert not torch.equal(view, uint8() / 255)
    kept = view.amax(1), view.amin(1)  # a turn of the hue leaves the largest and the least channel
    if only == {"hue": 0.2}:
        torch.testing.assert_close(kept, ((uint8() / 255).amax(1), (uint8() / 255).amin(1)), atol=1e-6, rtol=0)


def test_the_jitter_matches_torchvisions_statistics():
    from torchvision.transforms import v2

    torch.manual_seed(0)
    picture = uint8(1, 8, 8, seed=3)
    jitter = v2.ColorJitter(0.8, 0.8, 0.8, 0.2)
    theirs = torch.stack([jitter(picture[0] / 255) for _ in range(1500)])
    settings = Augment(jitter=1.0, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)
    ours = views.random_view(picture.expand(1500, -1, -1, -1), torch.arange(1500), settings)
    torch.testing.assert_close(ours.mean(0), theirs.mean(0), atol=0.04, rtol=0)
    torch.testing.assert_close(ours.std(0), theirs.std(0), atol=0.03, rtol=0)
