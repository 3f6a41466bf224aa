"""CIE Lab against values written out by hand from the standard, YCbCr against Pillow."""

import numpy as np
import pytest
import torch
from PIL import Image as Pil

from multicl.modalities.image import color
from multicl.modalities.image.color import rgb_to_lab


def reference(red, green, blue):
    """IEC 61966-2-1 and CIE 15, one colour in plain Python floats."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (red, green, blue)]
    matrix = [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    xyz = [sum(m * v for m, v in zip(row, linear, strict=True)) for row in matrix]
    relative = [v / white for v, white in zip(xyz, (0.95047, 1.0, 1.08883), strict=True)]
    x, y, z = (v ** (1 / 3) if v > (6 / 29) ** 3 else v * (29 / 6) ** 2 / 3 + 4 / 29 for v in relative)
    return [116 * y - 16, 500 * (x - y), 200 * (y - z)]


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        ((1.0, 1.0, 1.0), (100.0, 0.0, 0.0)),
        ((1.0, 0.0, 0.0), (53.24, 80.09, 67.20)),  # values that colour tables give
        ((0.0, 1.0, 0.0), (87.73, -86.18, 83.18)),
        ((0.0, 0.0, 1.0), (32.30, 79.19, -107.86)),
    ],
)
def test_well_known_colours(rgb, lab):
    got = rgb_to_lab(torch.tensor(rgb).view(1, 3, 1, 1)).flatten().tolist()
    assert got == pytest.approx(lab, abs=0.02)


def test_any_colour():
    rgb = torch.rand(1, 3, 6, 40, generator=torch.Generator().manual_seed(0)) ** 3
    want = torch.tensor([reference(*colour) for colour in rgb[0].flatten(1).T.tolist()]).T.view(1, 3, 6, 40)
    torch.testing.assert_close(rgb_to_lab(rgb), want, atol=5e-3, rtol=0)


def test_ycbcr_is_pillows():
    rgb = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    wanted = np.asarray(Pil.fromarray(rgb).convert("YCbCr")).astype(np.float32)
    found = color.rgb_to_ycbcr(torch.from_numpy(rgb).permute(2, 0, 1)[None] / 255)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(found + np.array([0, 128, 128]) - wanted).max() < 1.01


@pytest.mark.parametrize(("channels", "count"), [("rgb", 3), ("L", 1), ("ab", 2), ("a", 1), ("Y", 1), ("CbCr", 2)])
def test_an_encoder_sees_its_channels_alone(channels, count):
    rgb = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    found, (mean, std) = color.chosen(rgb, channels), color.stats(channels, color.IMAGENET)
    assert found.shape == (2, count, 4, 4)
    assert mean.shape == std.shape == (count, 1, 1)
    if channels == "a":
        assert torch.equal(torch.cat((found, color.chosen(rgb, "b")), 1), color.chosen(rgb, "ab"))
