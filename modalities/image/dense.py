"""The changes of a random view for a GPU: each is computed for all rows, and kept in those that drew it.

On a GPU, kernel launches and synchronising (to see which rows a change applies to) take the time, not arithmetic. So
the draws stay on the device as numbers, and the whole view can be recorded as a CUDA graph and replayed as one launch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from multicl.modalities import seeded
from multicl.modalities.image import augment, resample
from multicl.modalities.image.augment import CONTRAST, HUE, SATURATION
from multicl.modalities.image.draws import NOISE, draw
from multicl.ops.launch import on, runs_on

if TYPE_CHECKING:
    from multicl.modalities.image.presets import Augment


IN_REGISTERS = 64 * 64
"""Most pixels of a picture that one program of the kernel can hold."""


def dense_view(pixels: Tensor, seeds: Tensor, extent: Tensor | None, s: Augment, size: tuple[int, int]) -> Tensor:
    """As `views.random_view`, without autocast; `seeds` and `extent` are on the pictures' device."""
    height, width = pixels.shape[2:]
    draws = draw(seeds, height, width, s, size, extent)
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "rotate": lambda x: resample.rotate(x, draws.angle),
        "jitter": lambda x: jittered(x, draws.factors, draws.order),
        "gray": augment.to_grey,
        "blur": lambda x: resample.gaussian_blur(x, draws.sigma, s.blur_sigma[1]),
        "solarize": lambda x: augment.solarize(x, s.solarize_threshold),
        "posterize": lambda x: augment.posterize(x, s.posterize_bits),
        "noise": lambda x: augment.add_noise(x, seeded.normal(seeds, tuple(x.shape[1:]), NOISE), s.noise_std),
        "cutout": lambda x: augment.cut_out(x, draws.hole),
    }
    if draws.cut:
        x = torch.empty(len(pixels), 3, *size, device=pixels.device)
        resample.resized_crop(pixels, draws.box, draws.rows["flip"], x)
    else:
        x = resample.to_float(pixels)
        changes = {"flip": lambda x: x.flip(3), **changes}
    for name, change in changes.items():
        if getattr(s, name):
            x = torch.where(draws.rows[name][:, None, None, None], change(x.clone()), x)
    return x


def jittered(x: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """As `augment.color_jitter`, with factors and order on the pictures' device; overwrites x."""
    if x[0, 0].numel() <= IN_REGISTERS and runs_on(x.device):
        return by_kernel(x, factors, order)
    for what in order.unbind(1):
        strength = factors.gather(1, what[:, None])[:, 0]
        strength = torch.where(what == HUE, 1.0, strength)  # a blend by 1 changes nothing
        to_mean, to_grey = ((1 - strength) * (what == blend) for blend in (CONTRAST, SATURATION))
        x = augment.blend(x, strength, to_mean, to_grey)
        shift = torch.where(what == HUE, factors[:, HUE], 0.0)
        turned = augment.adjust_hue(x.clone(), shift)
        x = torch.where((what == HUE)[:, None, None, None], turned, x)
    return x


def by_kernel(x: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """The same for contiguous pictures of at most IN_REGISTERS pixels, in one launch."""
    from multicl.modalities.image.jitter_kernel import jitter

    size = x[0, 0].numel()
    room = 1 << (size - 1).bit_length()
    with on(x.device):
        jitter[(len(x),)](x, factors, order, size, TURNS=order.shape[1], ROOM=room, num_warps=4 if room <= 1024 else 8)
    return x
