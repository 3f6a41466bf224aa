"""Whether Triton kernels can run on a device, and the context in which they are launched."""

from __future__ import annotations

import functools
import importlib.util
import os
from contextlib import AbstractContextManager, nullcontext

import torch

SWITCH = "MULTICL_TRITON"
"""Environment variable; "0" turns the kernels off: GPUs then use the forms made of torch's own operations."""


def runs_on(device: torch.device) -> bool:
    """Whether kernels run there: an NVIDIA GPU of compute capability 8.0 or newer, with Triton, and SWITCH not "0"."""
    return device.type == "cuda" and os.environ.get(SWITCH) != "0" and _is_able(device)


@functools.cache
def _is_able(device: torch.device) -> bool:
    if torch.version.cuda is None or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


def on(device: torch.device) -> AbstractContextManager[object]:
    """A context in which the device is the current one: Triton launches kernels there."""
    elsewhere = device.type == "cuda" and device.index not in (None, torch.cuda.current_device())
    return torch.cuda.device(device) if elsewhere else nullcontext()
