"""Crop, rotation and blur, in both forms, against torchvision, which takes one parameter for a batch: row by row."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as F

from multicl.modalities.image import resample


def pictures(n=5, height=20, width=28, seed=0):
    """Noise over slopes."""
    g = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, height, width, generator=g) * torch.linspace(0.2, 1, width)


def crop(x, box, flip, size):
    return resample.resized_crop(x, box, flip, torch.empty(len(x), 3, *size))


@pytest.fixture(params=[0, 1000], ids=["by row", "matrices"])
def form(request, monkeypatch):
    """Either form for pictures of any size."""
    monkeypatch.setattr(resample, "SMALL", request.param)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_crop_flip_and_scale(data):
    height, width = data.draw(st.integers(4, 60)), data.draw(st.integers(4, 60))
    size = data.draw(st.tuples(st.integers(2, 60), st.integers(2, 60)))
    x = pictures(3, height, width)
    boxes, flips, theirs = [], [], []
    for i in range(3):
        h, w = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
        top, left = data.draw(st.integers(0, height - h)), data.draw(st.integers(0, width - w))
        flips.append(data.draw(st.booleans()))
        boxes.append([top, left, h, w])
        cut = F.resized_crop(x[i : i + 1], top, left, h, w, list(size), antialias=True)
        theirs.append(cut.flip(3) if flips[-1] else cut)
    ours = crop(x, torch.tensor(boxes, dtype=torch.float32), torch.tensor(flips), size)
    torch.testing.assert_close(ours, torch.cat(theirs), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("size", "tolerance"), [((40, 44), 1.01), ((12, 10), 1.01)], ids=["larger", "smaller"])
def test_crop_of_bytes(size, tolerance, form):
    x = (pictures(2, 30, 40) * 255).to(torch.uint8)
    box = torch.tensor([[3.0, 4.0, 20.0, 30.0], [0.0, 1.0, 30.0, 22.0]])
    theirs = torch.cat([F.resized_crop(x[i : i + 1], *map(int, box[i]), list(size), antialias=True) for i in range(2)])
    ours = crop(x, box, torch.zeros(2, dtype=torch.bool), size)
    assert float((ours * 255 - theirs).abs().max()) < tolerance  # torch rounds to levels, between its two sides too


def test_a_crop_of_everything_changes_nothing(form):
    x = pictures()
    box = torch.tensor([[0.0, 0.0, 20.0, 28.0]]).expand(5, -1)
    torch.testing.assert_close(crop(x, box, torch.zeros(5, dtype=torch.bool), (20, 28)), x)


def test_rotation():
    x = torch.zeros(3, 3, 24, 30)
    x[:, :, 6:18, 8:22] = pictures(3, 12, 14)  # what turns out of the frame is black on either side
    angle = torch.tensor([-40.0, 0.0, 90.0])
    theirs = torch.cat([F.rotate(x[i : i + 1], float(angle[i]), F.InterpolationMode.BILINEAR) for i in range(3)])
    torch.testing.assert_close(resample.rotate(x, angle * math.pi / 180), theirs, atol=1e-4, rtol=0)


def test_blur(form):
    x, sigma = pictures(), torch.tensor([0.1, 0.5, 1.0, 2.0, 5.0])
    sizes = [2 * math.ceil(3 * float(s)) + 1 for s in sigma]
    theirs = [F.gaussian_blur(x[i : i + 1], [sizes[i]] * 2, [float(sigma[i])] * 2) for i in range(5)]
    torch.testing.assert_close(resample.gaussian_blur(x, sigma), torch.cat(theirs), atol=1e-5, rtol=0)


def test_blur_that_is_cut_is_close_to_one_that_is_not():
    x = pictures(1)
    theirs = F.gaussian_blur(x, [19, 19], [1.0, 1.0])
    assert 0 < float((resample.gaussian_blur(x, torch.tensor([1.0])) - theirs).abs().max()) < 0.5 / 255


@pytest.mark.parametrize("shape", [(4, 5), (1, 6), (7, 1), (1, 1)])
def test_blur_wider_than_the_picture_keeps_its_mean_level(shape, form):
    flat = torch.full((1, 3, *shape), 0.3)
    torch.testing.assert_close(resample.gaussian_blur(flat, torch.tensor([3.0])), flat)


def test_both_forms_mirror_a_small_picture_again_and_again(monkeypatch):
    x, sigma = pictures(2, 3, 5), torch.tensor([2.0, 4.0])
    matrices = resample.gaussian_blur(x, sigma)
    monkeypatch.setattr(resample, "SMALL", 0)
    torch.testing.assert_close(resample.gaussian_blur(x, sigma), matrices, atol=1e-5, rtol=0)
