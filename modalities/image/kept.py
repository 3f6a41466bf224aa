"""Batches of pictures as training keeps them: whole, each of its own size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from multicl.modalities.image.presets import SMALL


def stack(pictures: Sequence[Tensor]) -> Tensor:
    """Pictures [3, h, w] of one size -> [B, 3, h, w] in their own memory format (of large ones, channels last)."""
    if pictures[0].is_contiguous():
        return torch.stack(list(pictures))
    return torch.stack([picture.permute(1, 2, 0) for picture in pictures]).permute(0, 3, 1, 2)


def kind(sample: tuple[Tensor, float]) -> tuple[object, ...]:
    """Pictures of one kind alone are laid out alike by `together`, whatever their number."""
    picture, aspect = sample
    return (*picture.shape, picture.is_contiguous(), aspect == 1)


def together(samples: Sequence[tuple[Tensor, float]], most: tuple[int, int]) -> dict[str, Tensor]:
    """Pictures uint8 [3, h, w] with their aspects -> "pixels" [B, 3, H, W] and, where it matters, "extent" [B, 3].

    Pictures of several sizes lie at the top left of `most` (height, width), whatever is in the batch: recordings for a
    GPU need few shapes. "extent" is as in `views.random_view`.
    """
    shapes = [(picture.shape[1], picture.shape[2]) for picture, _ in samples]
    alike = len(set(shapes)) == 1
    large = max(most) > SMALL
    if alike and (not large or max(shapes[0]) > SMALL):
        pixels = stack([picture for picture, _ in samples])
        if all(aspect == 1 for _, aspect in samples):
            return {"pixels": pixels}
    else:
        # small ones that happen to be of one size are padded where others may be large: on a CPU large ones are rounded
        # to a level when they are scaled, and a row's view must be the same in any batch
        room = (shapes[0][0], SMALL + 1) if alike else most
        pixels = torch.zeros(len(samples), 3, *room, dtype=torch.uint8)
        if large:
            pixels = pixels.to(memory_format=torch.channels_last)
        for to, (picture, _), (height, width) in zip(pixels, samples, shapes, strict=True):
            to[:, :height, :width] = picture
    rows = [(*shape, aspect) for shape, (_, aspect) in zip(shapes, samples, strict=True)]
    return {"pixels": pixels, "extent": torch.tensor(rows)}  # float32: not every GPU has float64
