"""Each change against torchvision, which takes one parameter for a whole batch: row by row."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as F

from multicl.modalities.image import augment as ops

HALF_A_LEVEL = 0.5 / 255


def pictures(n=5, height=20, width=28, seed=0):
    """Noise over slopes, with a grey, a black and a white row among them."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 3, height, width, generator=g) * torch.linspace(0.2, 1, width)
    x[1] = x[1, :1]
    x[2, :, : height // 2] = 0
    x[2, :, height // 2 :] = 1
    return x


def row_by_row(theirs, x, *parameters):
    return torch.cat([theirs(x[i : i + 1], *(float(p[i]) for p in parameters)) for i in range(len(x))])


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_factors(name):
    x, factor = pictures(), torch.tensor([0.0, 0.3, 1.0, 1.4, 3.0])
    theirs = row_by_row(getattr(F, f"adjust_{name}"), x, factor)
    torch.testing.assert_close(getattr(ops, f"adjust_{name}")(x, factor), theirs, atol=1e-5, rtol=0)


def test_hue():
    x, shift = pictures(), torch.tensor([-0.5, -0.1, 0.0, 0.1, 0.37])
    torch.testing.assert_close(ops.adjust_hue(x, shift), row_by_row(F.adjust_hue, x, shift), atol=2e-5, rtol=0)


def test_grey_and_solarize():
    x = pictures()
    torch.testing.assert_close(ops.to_grey(x), F.rgb_to_grayscale(x, 3), atol=1e-6, rtol=0)
    threshold = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    torch.testing.assert_close(ops.solarize(x, threshold), row_by_row(F.solarize, x, threshold))


@pytest.mark.parametrize("radius", [1, 3, 6])
def test_blur(radius):
    x, sigma = pictures(), torch.tensor([0.1, 0.5, 1.0, 2.0, 5.0])
    size = 2 * radius + 1
    theirs = torch.cat([F.gaussian_blur(x[i : i + 1], [size, size], [float(sigma[i])] * 2) for i in range(5)])
    torch.testing.assert_close(ops.gaussian_blur(x, sigma, radius), theirs, atol=1e-5, rtol=0)


def test_blur_wider_than_the_picture_keeps_its_mean_level():
    flat = torch.full((1, 3, 4, 5), 0.3)
    torch.testing.assert_close(ops.gaussian_blur(flat, torch.tensor([3.0]), 9), flat)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_crop_flip_and_scale(data):
    height, width = data.draw(st.integers(4, 40)), data.draw(st.integers(4, 40))
    size = data.draw(st.tuples(st.integers(2, 40), st.integers(2, 40)))
    x = pictures(3, height, width)
    boxes, flips, theirs = [], [], []
    for i in range(3):
        h, w = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
        top, left = data.draw(st.integers(0, height - h)), data.draw(st.integers(0, width - w))
        flips.append(data.draw(st.booleans()))
        boxes.append([top, left, h, w])
        cut = F.resized_crop(x[i : i + 1], top, left, h, w, list(size), antialias=True)
        theirs.append(cut.flip(3) if flips[-1] else cut)
    ours = ops.resized_crop(x, torch.tensor(boxes, dtype=torch.float32), torch.tensor(flips), size)
    torch.testing.assert_close(ours, torch.cat(theirs), atol=1e-4, rtol=0)


def test_a_crop_of_everything_changes_nothing():
    x = pictures()
    box = torch.tensor([[0.0, 0.0, 20.0, 28.0]]).expand(5, -1)
    torch.testing.assert_close(ops.resized_crop(x, box, torch.zeros(5, dtype=torch.bool), (20, 28)), x)


def test_rotation():
    x = torch.zeros(3, 3, 24, 30)
    x[:, :, 6:18, 8:22] = pictures(3, 12, 14)  # what turns out of the frame is black on either side
    angle = torch.tensor([-40.0, 0.0, 90.0])
    theirs = row_by_row(lambda y, a: F.rotate(y, a, interpolation=F.InterpolationMode.BILINEAR), x, angle)
    torch.testing.assert_close(ops.rotate(x, angle * math.pi / 180), theirs, atol=1e-4, rtol=0)


def test_noise_is_added_and_cut():
    x = torch.tensor([0.0, 0.5, 1.0]).repeat(1, 3, 1, 1)
    noise = torch.tensor([-1.0, 2.0, 1.0]).repeat(1, 3, 1, 1)
    assert ops.add_noise(x, noise, 0.1)[0, 0, 0].tolist() == pytest.approx([0.0, 0.7, 1.0])


def test_jitter_applies_each_row_in_its_own_order():
    x = pictures(4)
    factors = [
        torch.tensor([0.7, 1.3, 0.9, 1.4]),
        torch.tensor([1.4, 0.6, 1.2, 0.8]),
        torch.tensor([0.1, -0.1, 0.05, 0.0]),
    ]
    names = ["brightness", "contrast", "hue"]
    order = torch.tensor([[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]])
    adjustments = [(getattr(ops, f"adjust_{n}"), f) for n, f in zip(names, factors, strict=True)]
    before = x.clone()
    ours = ops.color_jitter(x, adjustments, order)
    assert torch.equal(x, before)
    for i in range(4):
        y = x[i : i + 1]
        for k in order[i].tolist():
            y = getattr(F, f"adjust_{names[k]}")(y, float(factors[k][i]))
        torch.testing.assert_close(ours[i : i + 1], y, atol=5e-5, rtol=0)
