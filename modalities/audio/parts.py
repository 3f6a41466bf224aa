"""Parts of a sound to be pooled one by one: equal in time, or equal in how much changes within them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multicl.modalities.audio.mel import within

STILL = 1e-3
"""Least change of a frame, in a spectrogram of unit variance: it divides silence by time."""


def equal_parts(weights: Tensor, count: int) -> Tensor:
    """Weights of averages over consecutive parts of equal total weight; a frame is divided between parts that share it.

    Args:
        weights: [B, F] of frames, not negative; each row's sum is positive.

    Returns:
        [B, count, F], summing to 1 over F.
    """
    after = weights.cumsum(1)
    edges = after[:, -1:] * torch.arange(count + 1, device=weights.device) / count  # [B, count + 1]
    start, end = edges[:, :-1, None], edges[:, 1:, None]
    overlap = torch.minimum(end, after[:, None]) - torch.maximum(start, (after - weights)[:, None])
    return overlap.clamp(min=0) / (end - start)


@torch.no_grad()
def change(x: Tensor, frames: Tensor) -> Tensor:
    """How far the bands move at each frame: half the way from the frame before and half the way to the next.

    Parts of equal way are the same however long a vowel or a pause lasts: trace segmentation (Kuhn and Tomaschewski
    1983, "Improvements in isolated word recognition"). Bands are first averaged over 50 ms (at 10 ms a frame), so that
    noise does not count as change.

    Args:
        x: [B, M, F], zero beyond frames [B].

    Returns:
        [B, F], zero beyond the frames.
    """
    bands, size = x.shape[1:]
    valid = within(frames, size).float()
    place = torch.arange(-2.0, 3.0, device=x.device)  # made on the device: copies are waited for
    window = (1.25 - place.abs() / 2).clamp(max=1)[None, None]  # 1/4, 3/4, 1, 3/4, 1/4
    with torch.autocast(x.device.type, enabled=False):  # in bf16, rounding would count as change
        summed = nn.functional.conv1d(x.float(), window.expand(bands, 1, -1), padding=2, groups=bands)
        smooth = summed / nn.functional.conv1d(valid[:, None], window, padding=2).clamp(min=0.25)
    steps = torch.linalg.vector_norm(smooth.diff(dim=2), dim=1) * valid[:, 1:]
    before, after = (nn.functional.pad(steps, ends) for ends in ((1, 0), (0, 1)))
    return ((before + after) / 2 + STILL) * valid
