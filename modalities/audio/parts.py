"""Parts of a sound that are pooled separately: equal in time, or equal in how much changes within them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multicl.modalities.audio.mel import within

STILL = 1e-3
"""Minimum change of a frame, in a spectrogram of unit variance, so that silence is divided by time."""


def equal_parts(weights: Tensor, count: int) -> Tensor:
    """Weights that average over each of `count` consecutive parts of equal total weight; parts may share a frame.

    Args:
        weights: [B, F] of the frames, not negative; each row's sum is positive.

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
    """How much the spectrum changes at each frame: half its distance from the previous frame plus half to the next.

    Parts of equal change do not depend on how long a vowel or a pause lasts: trace segmentation (Kuhn and Tomaschewski
    1983, "Improvements in isolated word recognition"). Bands are first averaged over 50 ms (at 10 ms a frame), so that
    noise does not count as change.

    Args:
        x: [B, M, F], zero beyond frames [B].

    Returns:
        [B, F], zero beyond the frames.
    """
    bands, size = x.shape[1:]
    valid = within(frames, size).float()
    place = torch.arange(-2.0, 3.0, device=x.device)  # on the device: a copy would synchronise
    window = (1.25 - place.abs() / 2).clamp(max=1)[None, None]  # 1/4, 3/4, 1, 3/4, 1/4
    with torch.autocast(x.device.type, enabled=False):  # in bf16, rounding would count as change
        summed = nn.functional.conv1d(x.float(), window.expand(bands, 1, -1), padding=2, groups=bands)
        smooth = summed / nn.functional.conv1d(valid[:, None], window, padding=2).clamp(min=0.25)
    steps = torch.linalg.vector_norm(smooth.diff(dim=2), dim=1) * valid[:, 1:]
    before, after = (nn.functional.pad(steps, ends) for ends in ((1, 0), (0, 1)))
    return ((before + after) / 2 + STILL) * valid
