"""Random changes of a picture, `Augment`, and the papers' choices of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from multicl.modalities import checks

SMALL = 48
"""Pixels a side up to which a CPU makes views a batch at a time; larger pictures are faster one by one."""


require = partial(checks.require, "image")
"""Check one setting of `Image` or `Augment`: (holds, name, value, wanted)."""


def two_numbers(name: str, value: Any) -> tuple[Any, Any]:
    """A setting that must be two numbers."""
    numbers = isinstance(value, Sequence) and len(value) == 2 and all(isinstance(v, int | float) for v in value)
    require(numbers, name, value, "two numbers")
    return value[0], value[1]


def height_width(name: str, value: Any) -> tuple[int, int]:
    """(height, width) of a setting in pixels; one number stands for both."""
    size = two_numbers(name, value) if isinstance(value, Sequence) else (value, value)
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in size)
    require(whole and all(1 <= n <= 4096 for n in size), name, value, "one or two of 1 to 4096 pixels")
    return size


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Random changes of a picture, in the order of these fields; every row draws its own. Zeros turn a change off.

    Those of papers have names: `--image.strong simclr`, or `strong: simclr` in a file, stands for all of SimCLR's
    settings for ImageNet. Other names are small (SimCLR's for small pictures), moco (v2), byol-first and byol-second.
    Flags that follow change single settings.

    Raises:
        InputError: a setting out of its range.
    """

    named: ClassVar[Mapping[str, Augment]] = {}
    """Name, as on a command line or in a file -> settings."""

    crop: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest share of the area that a crop keeps, in (0, 1]; it is scaled back to the full size."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Range of the crop's width / height, relative to that of the view; for square views, torchvision's `ratio`."""
    flip: float = 0.0
    """Probability of a mirrored picture, left to right."""
    rotate: float = 0.0
    """Probability of a rotation."""
    rotate_degrees: float = 15.0
    """Greatest angle of the rotation, in either direction."""
    jitter: float = 0.0
    """Probability of the colour changes below, all four in random order."""
    brightness: float = 0.4
    """Greatest change of the brightness: its factor differs from 1 by at most this, and is 0 or more."""
    contrast: float = 0.4
    """Greatest change of the contrast, likewise."""
    saturation: float = 0.4
    """Greatest change of the saturation, likewise."""
    hue: float = 0.1
    """Greatest shift of the hue, as a share of the colour circle, in [0, 0.5]."""
    gray: float = 0.0
    """Probability of a grey picture."""
    blur: float = 0.0
    """Probability of a Gaussian blur."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Range of the blur's standard deviation, in pixels."""
    solarize: float = 0.0
    """Probability that bright pixels are inverted."""
    solarize_threshold: float = 0.5
    """Pixels of at least this value, in [0, 1], are inverted."""
    posterize: float = 0.0
    """Probability that each channel keeps only a few levels."""
    posterize_bits: int = 4
    """Bits that a channel keeps, 1 to 8: it has 2 to this power levels."""
    noise: float = 0.0
    """Probability of added Gaussian noise."""
    noise_std: float = 0.05
    """Standard deviation of the noise; pixels are in [0, 1]."""
    cutout: float = 0.0
    """Probability of a box filled with mid-grey (Cutout, arXiv:1708.04552); its shape is drawn like a crop's."""
    cutout_area: tuple[float, float] = (0.02, 0.33)
    """Smallest and largest share of the area that the box covers, in (0, 1]."""

    def __post_init__(self) -> None:
        ranges = {"crop": 1.0, "ratio": 100.0, "blur_sigma": 100.0, "cutout_area": 1.0}
        for name, top in ranges.items():
            low, high = two_numbers(name, getattr(self, name))
            require(0 < low <= high <= top, name, getattr(self, name), f"two numbers 0 < low <= high <= {top:g}")
        tops = {"rotate_degrees": 180.0, "brightness": 10.0, "contrast": 10.0, "saturation": 10.0, "hue": 0.5}
        for name in (f.name for f in dataclasses.fields(self)):
            value, top = getattr(self, name), tops.get(name, 1.0)  # most are probabilities
            if name == "posterize_bits":
                whole = isinstance(value, int) and not isinstance(value, bool)
                require(whole and 1 <= value <= 8, name, value, "a whole number, 1 to 8")
            elif name not in ranges:
                require(isinstance(value, int | float) and 0 <= value <= top, name, value, f"a number in [0, {top:g}]")


SMALL_PICTURES = Augment(crop=(0.2, 1.0), flip=0.5, jitter=0.8, gray=0.2)
"""SimCLR's (arXiv:2002.05709, appendix B.9) for pictures of about 32 pixels a side: half its jitter, no blur."""
SIMCLR = Augment(
    crop=(0.08, 1.0), flip=0.5, jitter=0.8, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, gray=0.2, blur=0.5
)
"""SimCLR's (arXiv:2002.05709, appendix A) for ImageNet. Its sigma of 0.1 to 2 pixels is for 224 pixels."""
MOCO = Augment(crop=(0.2, 1.0), flip=0.5, jitter=0.8, gray=0.2, blur=0.5)
"""MoCo v2's (arXiv:2003.04297)."""
BYOL_FIRST = Augment(crop=(0.08, 1.0), flip=0.5, jitter=0.8, saturation=0.2, gray=0.2, blur=1.0)
"""BYOL's first view (arXiv:2006.07733, appendix B), always blurred; Barlow Twins and MoCo v3 use it, too.

The two views differ, and a pair of two nodes compares their weak views: give two nodes one column and one tower,
`Image(column="image", tower="image", weak=BYOL_FIRST)` and the same with BYOL_SECOND."""
BYOL_SECOND = dataclasses.replace(BYOL_FIRST, blur=0.1, solarize=0.2)
"""BYOL's second view, seldom blurred and sometimes solarized."""

Augment.named = {
    "small": SMALL_PICTURES, "simclr": SIMCLR, "moco": MOCO, "byol-first": BYOL_FIRST, "byol-second": BYOL_SECOND,
}  # fmt: skip

STRONG = SMALL_PICTURES
"""For two views of one picture."""
WEAK = Augment(crop=(0.8, 1.0))
"""For a picture with a caption, which must stay true: no flip, no change of colour."""
LOCAL = Augment(crop=(0.05, 0.25), flip=0.5, jitter=0.8, gray=0.2)
"""A small part, otherwise as STRONG. SwAV's multi-crop (arXiv:2006.09882) keeps 0.05 to 0.14 of the area at 224 pixels
a side; at 32 that would leave about 10 pixels a side."""
