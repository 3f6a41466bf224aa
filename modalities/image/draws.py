"""What a random view draws: the parameters of every row, from its own seed alone, the same on every device."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from multicl.modalities import seeded
from multicl.modalities.image.augment import BRIGHTNESS, CONTRAST, HUE, SATURATION

if TYPE_CHECKING:
    from multicl.modalities.image.presets import Augment

TRIES = 10
"""Boxes drawn for a crop before the whole picture is taken, as in torchvision."""

# Streams of draws. In each a change has its own places: turned on or off, or added at the end, it leaves the draws of
# the others as they are.
CROP, COLOUR, CHOICES, HOLE, NOISE = range(5)
_BOX = 2 * TRIES + 2
_CHOICES = ("flip", "rotate", "jitter", "gray", "blur", "solarize", "noise", "posterize", "cutout")


@dataclass(frozen=True)
class Draws:
    """Parameters of B rows, where their seeds are."""

    rows: dict[str, Tensor]
    """Name of a change -> [B] bool: the rows that it takes."""
    seeds: Tensor
    """[B] int64."""
    box: Tensor
    """[B, 4] top, left, height, width of the crop."""
    angle: Tensor
    """[B] radians."""
    factors: Tensor
    """[B, 4] strengths of brightness, contrast, saturation and hue."""
    order: Tensor
    """[B, T] int64 which of them a row does, first to last."""
    sigma: Tensor
    """[B] pixels of blur."""
    hole: Tensor
    """[B, 4] the box to cut out."""

    def __getitem__(self, index: Tensor | slice) -> Draws:
        """Some rows."""
        rows = {name: mask[index] for name, mask in self.rows.items()}
        return Draws(rows, *(getattr(self, f.name)[index] for f in fields(self)[1:]))

    def by_hue(self) -> Tensor:
        """[B] order of the rows in which `color_jitter` finds those that it takes, and those of one hue's turn,
        together, and copies none."""
        turns = self.order.shape[1]
        hue = (self.order == HUE).to(torch.uint8).argmax(1) if turns else turns
        return torch.where(self.rows["jitter"], hue, turns).argsort(stable=True)


def draw(seeds: Tensor, height: int, width: int, s: Augment, size: tuple[int, int]) -> Draws:
    """The draws of rows with these seeds, [B] int64. Nothing is copied to their device, so that it can be recorded.

    Args:
        height, width: of the pictures; size: of the views.
    """
    drawn = seeded.uniforms(seeds, _BOX, HOLE + 1 if s.cutout else HOLE)
    choices = drawn[CHOICES, :, : len(_CHOICES) + 2]
    used, factors, order = _colours(drawn[COLOUR], s)
    shares = {name: getattr(s, name) for name in _CHOICES}
    if not used:
        shares["jitter"] = 0.0
    sides = (torch.full((len(seeds),), float(n), device=seeds.device) for n in (0, 0, height, width))
    whole = torch.stack(tuple(sides), 1)
    return Draws(
        rows={name: choices[:, i] < share for i, (name, share) in enumerate(shares.items())},
        seeds=seeds,
        box=whole if s.crop[0] == 1 else random_boxes(drawn[CROP], height, width, s.crop, s.ratio),
        angle=_between(choices[:, -2], -s.rotate_degrees, s.rotate_degrees) * (math.pi / 180),
        factors=factors,
        order=order,
        sigma=_between(choices[:, -1], *s.blur_sigma),
        hole=random_boxes(drawn[HOLE], *size, s.cutout_area, s.ratio) if s.cutout else whole,
    )


def random_boxes(
    draws: Tensor, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """[B, 4] float32 whole numbers: top, left, height, width, distributed as in torchvision's RandomResizedCrop.

    Args:
        draws: [B, 2 TRIES + 2] uniform numbers.
        scale: share of the area. ratio: width / height relative to that of the picture, log-uniform.
    """
    draws = draws.double()  # so that devices, whose last bits differ, round to the same pixels
    share = _between(draws[:, :TRIES], *scale)
    stretch = _between(draws[:, TRIES : 2 * TRIES], math.log(ratio[0]), math.log(ratio[1])).exp()
    h = (height * (share / stretch).sqrt()).round()  # [B, TRIES]
    w = (width * (share * stretch).sqrt()).round()
    fits = (h >= 1) & (h <= height) & (w >= 1) & (w <= width)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)
    h = torch.where(fits, h, height).gather(1, first)[:, 0]
    w = torch.where(fits, w, width).gather(1, first)[:, 0]
    top = (draws[:, -2] * (height - h + 1)).floor()
    left = (draws[:, -1] * (width - w + 1)).floor()
    return torch.stack((top, left, h, w), 1).float()


def _colours(draws: Tensor, s: Augment) -> tuple[list[int], Tensor, Tensor]:
    """The T adjustments that do something, the strengths [B, 4] of all, and the order [B, T] of those."""
    strengths = {BRIGHTNESS: s.brightness, CONTRAST: s.contrast, SATURATION: s.saturation, HUE: s.hue}
    used = [what for what, strength in strengths.items() if strength]
    factors = []
    for what, strength in strengths.items():
        low, high = (-strength, strength) if what == HUE else (max(0.0, 1 - strength), 1 + strength)
        factors.append(_between(draws[:, what], low, high))
    place = draws[:, 4 : 4 + len(used)].argsort(dim=1, stable=True)
    order = torch.zeros_like(place)
    for number, what in enumerate(used):
        order += (place == number) * what
    return used, torch.stack(factors, 1), order


def _between(draws: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * draws
