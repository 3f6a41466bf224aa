"""Batches of pictures as training stores them: whole, each at its own size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from multicl.modalities.image.presets import SMALL


def stack(pictures: Sequence[Tensor]) -> Tensor:
    """Pictures [3, h, w] of one size -> [B, 3, h, w] in their own memory format (large ones: channels last)."""
    if pictures[0].is_contiguous():
        return torch.stack(list(pictures))
    return torch.stack([picture.permute(1, 2, 0) for picture in pictures]).permute(0, 3, 1, 2)


def kind(sample: tuple[Tensor, float]) -> tuple[object, ...]:
    """Key of a sample: `together` lays out any number of pictures of one kind in the same way."""
    picture, aspect = sample
    return (*picture.shape, picture.is_contiguous(), aspect == 1)


def together(samples: Sequence[tuple[Tensor, float]], most: tuple[int, int]) -> dict[str, Tensor]:
    """Pictures uint8 [3, h, w] with their aspects -> "pixels" [B, 3, H, W] and, if it matters, "extent" [B, 3].

    Pictures of several sizes are padded to `most` (height, width), at the top left, whatever is in the batch: CUDA
    graphs need few shapes. "extent" is as in `views.random_view`.
    """
    shapes = [(picture.shape[1], picture.shape[2]) for picture, _ in samples]
    alike = len(set(shapes)) == 1
    large = max(most) > SMALL
    if alike and (not large or max(shapes[0]) > SMALL):
        pixels = stack([picture for picture, _ in samples])
        if all(aspect == 1 for _, aspect in samples):
            return {"pixels": pixels}
    else:
        # small ones that happen to have one size are padded if others may be large: on a CPU, scaling rounds large ones
        # to a level, and a row's view must be the same in any batch
        room = (shapes[0][0], SMALL + 1) if alike else most
        pixels = torch.zeros(len(samples), 3, *room, dtype=torch.uint8)
        if large:
            pixels = pixels.to(memory_format=torch.channels_last)
        for to, (picture, _), (height, width) in zip(pixels, samples, shapes, strict=True):
            to[:, :height, :width] = picture
    rows = [(*shape, aspect) for shape, (_, aspect) in zip(shapes, samples, strict=True)]
    return {"pixels": pixels, "extent": torch.tensor(rows)}  # float32: not every GPU has float64
