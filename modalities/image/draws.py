"""The draws of a random view: each row's parameters, from its own seed alone, the same on every device."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from multicl.modalities import seeded
from multicl.modalities.image.augment import BRIGHTNESS, CONTRAST, HUE, SATURATION

if TYPE_CHECKING:
    from multicl.modalities.image.presets import Augment

TRIES = 10
"""Boxes that are tried for a crop before the whole picture is taken, as in torchvision."""

# Random streams. In each, every change has its own positions: turning it on or off, or adding one at the end, leaves
# the draws of the others as they are.
CROP, COLOUR, CHOICES, HOLE, NOISE = range(5)
_BOX = 2 * TRIES + 2
_CHOICES = ("flip", "rotate", "jitter", "gray", "blur", "solarize", "noise", "posterize", "cutout")


@dataclass(frozen=True)
class Draws:
    """Parameters of B rows, on the device of their seeds."""

    rows: dict[str, Tensor]
    """Name of a change -> [B] bool: the rows that it applies to."""
    seeds: Tensor
    """[B] int64."""
    box: Tensor
    """[B, 4] top, left, height, width of the crop."""
    angle: Tensor
    """[B] radians."""
    factors: Tensor
    """[B, 4] strengths of brightness, contrast, saturation and hue."""
    order: Tensor
    """[B, T] int64, the colour adjustments of a row, first to last."""
    sigma: Tensor
    """[B] standard deviation of the blur, in pixels."""
    hole: Tensor
    """[B, 4] the box to cut out."""
    cut: bool
    """Whether pictures are cropped or scaled; False: they have the view's size and are taken whole."""

    def __getitem__(self, index: Tensor | slice) -> Draws:
        """Some rows."""
        parts = {f.name: getattr(self, f.name)[index] for f in fields(self) if f.name not in ("rows", "cut")}
        return replace(self, rows={name: mask[index] for name, mask in self.rows.items()}, **parts)

    def by_hue(self) -> Tensor:
        """[B] an order of the rows in which those that `color_jitter` changes are adjacent, and among them those whose
        hue comes at the same turn, so that it need not copy them."""
        turns = self.order.shape[1]
        hue = (self.order == HUE).to(torch.uint8).argmax(1) if turns else turns
        return torch.where(self.rows["jitter"], hue, turns).argsort(stable=True)


def draw(
    seeds: Tensor, height: int, width: int, s: Augment, size: tuple[int, int], extent: Tensor | None = None
) -> Draws:
    """The draws of rows with these seeds, [B] int64. Nothing is copied to their device: a CUDA graph can record it.

    Args:
        height, width: of the pictures; size: of the views.
        extent: as in `random_boxes`; None: pictures fill height and width, and have the views' proportions.
    """
    drawn = seeded.uniforms(seeds, _BOX, HOLE + 1 if s.cutout else HOLE)
    choices = drawn[CHOICES, :, : len(_CHOICES) + 2]
    used, factors, order = _colours(drawn[COLOUR], s)
    shares = {name: getattr(s, name) for name in _CHOICES}
    if not used:
        shares["jitter"] = 0.0
    cut = s.crop[0] < 1 or size != (height, width) or extent is not None
    extent = filled(seeds, height, width) if extent is None else extent
    box = _crops(drawn[CROP], extent, s)
    return Draws(
        rows={name: choices[:, i] < share for i, (name, share) in enumerate(shares.items())},
        seeds=seeds,
        box=box,
        angle=_between(choices[:, -2], -s.rotate_degrees, s.rotate_degrees) * (math.pi / 180),
        factors=factors,
        order=order,
        sigma=_between(choices[:, -1], *s.blur_sigma),
        hole=random_boxes(drawn[HOLE], filled(seeds, *size), s.cutout_area, s.ratio) if s.cutout else box,  # or unused
        cut=cut,
    )


def crop_boxes(seeds: Tensor, extent: Tensor, s: Augment) -> Tensor:
    """[B, 4] only the crops of `draw`; seeds [B] and extents [B, 3] are on one device."""
    return _crops(seeded.uniform(seeds, _BOX, CROP), extent, s)


def _crops(draws: Tensor, extent: Tensor, s: Augment) -> Tensor:
    return centred_boxes(extent) if s.crop[0] == 1 else random_boxes(draws, extent, s.crop, s.ratio)


def filled(rows: Tensor, height: int, width: int) -> Tensor:
    """[B, 3] extents, as in `random_boxes`, of B rows that fill height and width, on the device of `rows`."""
    columns = (torch.full((len(rows),), float(n), device=rows.device) for n in (height, width, 1))
    return torch.stack(tuple(columns), 1)


def random_boxes(draws: Tensor, extent: Tensor, scale: tuple[float, float], ratio: tuple[float, float]) -> Tensor:
    """[B, 4] float32 whole numbers: top, left, height, width, distributed as in torchvision's RandomResizedCrop.

    Args:
        draws: [B, 2 TRIES + 2] uniform numbers.
        extent: [B, 3] float32: each row's height and width of the whole picture as it is stored, in pixels, and its
            original width / height, relative to that of the view.
        scale: share of the area. ratio: width / height relative to that of the view, log-uniform.
    """
    height, width, aspect = extent.double()[:, :, None].unbind(1)  # [B, 1]
    draws = draws.double()  # so that devices that differ in last bits round to the same pixels
    share = _between(draws[:, :TRIES], *scale)
    stretch = _between(draws[:, TRIES : 2 * TRIES], math.log(ratio[0]), math.log(ratio[1])).exp() / aspect
    h = (height * (share / stretch).sqrt()).round()  # [B, TRIES]
    w = (width * (share * stretch).sqrt()).round()
    fits = (h >= 1) & (h <= height) & (w >= 1) & (w <= width)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)
    h, w = h.gather(1, first), w.gather(1, first)
    top = (draws[:, -2:-1] * (height - h + 1)).floor()
    left = (draws[:, -1:] * (width - w + 1)).floor()
    box = torch.cat((top, left, h, w), 1).float()
    return torch.where(fits.any(1, keepdim=True), box, centred_boxes(extent, ratio))


def centred_boxes(extent: Tensor, ratio: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """[B, 4] float32: the largest centred boxes whose width / height, relative to that of the view, is in `ratio`.

    Args:
        extent: as in `random_boxes`.
    """
    height, width, aspect = extent.double().unbind(1)
    wanted = aspect.clamp(*ratio)
    h = (height * (aspect / wanted).clamp(max=1)).round().clamp(min=1)
    w = (width * (wanted / aspect).clamp(max=1)).round().clamp(min=1)
    return torch.stack((((height - h) / 2).floor(), ((width - w) / 2).floor(), h, w), 1).float()


def _colours(draws: Tensor, s: Augment) -> tuple[list[int], Tensor, Tensor]:
    """The T adjustments whose strength is not 0, factors [B, 4] of all four, and the order [B, T] of those T."""
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
